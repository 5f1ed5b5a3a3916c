namespace MLNetLora.Text;

/// <summary>Plain text for continued pretraining: every token is learned, and &lt;|endoftext|&gt; ends the document.</summary>
internal static class PlainText
{
    /// <summary>
    /// The rows of a document. A long one becomes several; each begins with the last token of the one before, from which its own first token is learned, so
    /// that no token is left out.
    /// </summary>
    /// <param name="tokenizer">The checkpoint's tokenizer.</param>
    /// <param name="text">The document. Control tokens spelled in it are text.</param>
    /// <param name="maximumLength">Length of a row; at least 2.</param>
    /// <exception cref="TokenizerException">The tokenizer has no &lt;|endoftext|&gt;.</exception>
    public static IEnumerable<TokenizedRow> Tokenize(QwenTokenizer tokenizer, string text, int maximumLength)
    {
        ArgumentNullException.ThrowIfNull(tokenizer);
        ArgumentNullException.ThrowIfNull(text);
        ArgumentOutOfRangeException.ThrowIfLessThan(maximumLength, 2);
        int end = tokenizer.EndOfTextId ?? throw new TokenizerException("The tokenizer has no <|endoftext|>, which ends a document. "
            + "Restore tokenizer_config.json or tokenizer.json of the checkpoint.");
        int replaced = UnicodeText.UnpairedSurrogates(text);
        int[] ids = [.. tokenizer.Encode(text), end];
        return Rows();

        IEnumerable<TokenizedRow> Rows()
        {
            for (int start = 0; start == 0 || start < ids.Length - 1; start += maximumLength - 1)
            {
                int[] row = ids[start..Math.Min(start + maximumLength, ids.Length)];
                TokenizationReport report = new(row.Length, row.Length, row.Length, row.Length) { ReplacedCharacters = start == 0 ? replaced : 0 };
                yield return new TokenizedRow(new TrainingRow(row, (int[])row.Clone()), report);
            }
        }
    }
}
