using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Rows become tokens for training: on all cores, looked at by a preflight on their way, those with nothing to learn left out and told by number.</summary>
/// <param name="formatter">Makes tokens of a row.</param>
/// <param name="prompt">Label scope and maximum length.</param>
/// <param name="threads">How many threads; 0 takes all cores.</param>
internal sealed class RowTokenizer(RowFormatter formatter, PromptOptions prompt, int threads)
{
    /// <summary>The tokenised rows that have something to learn.</summary>
    /// <param name="rows">The rows, enumerated once.</param>
    /// <param name="what">"training" or "validation", for the messages.</param>
    /// <param name="preflight">Looks at every row, those that are left out too.</param>
    /// <returns>How many rows there were, and what became of them.</returns>
    /// <exception cref="DatasetException">A row is wrong, or none has anything to learn; the message names rows by number, from 1.</exception>
    public (int Count, List<TrainingRow> Rows) Tokenize(IEnumerable<TextRow> rows, string what, Preflight preflight)
    {
        List<TrainingRow> learned = [];
        int number = 0;
        foreach (IReadOnlyList<TokenizedRow> parts in ParallelRows.Convert(rows.Select((row, index) => (row, index + 1)), numbered => Tokenize(numbered.row, numbered.Item2, what), threads))
        {
            number++;
            foreach (TokenizedRow part in parts)
            {
                preflight.Add(part, number);
                if (part.Row.LabelTokens > 0)
                {
                    learned.Add(part.Row);
                }
            }
        }

        return learned.Count > 0 ? (number, learned) : throw new DatasetException(
            $"None of the {number} {what} rows has a token to learn: MaximumSequenceLength is {prompt.MaximumSequenceLength}, and nothing of the answers is left ({Preflight.Numbers(preflight.UnlearnedRows, preflight.UnlearnedCount)}). Raise MaximumSequenceLength, up to {preflight.LongestRow} for the longest row, or shorten the questions.");
    }

    /// <summary>What should be said about rows that were cut off or left out.</summary>
    public IEnumerable<string> Notices(Preflight preflight, string what)
    {
        if (preflight.TruncatedCount > 0)
        {
            yield return $"{preflight.TruncatedCount} of {preflight.Rows} {what} rows are longer than MaximumSequenceLength ({prompt.MaximumSequenceLength} tokens) and lose their end: {Preflight.Numbers(preflight.TruncatedRows, preflight.TruncatedCount)}.";
        }

        if (preflight.UnlearnedCount > 0)
        {
            yield return $"{preflight.UnlearnedCount} of {preflight.Rows} {what} rows are left out, because nothing of them is left to learn: {Preflight.Numbers(preflight.UnlearnedRows, preflight.UnlearnedCount)}.";
        }
    }

    private IReadOnlyList<TokenizedRow> Tokenize(TextRow row, int number, string what)
    {
        try
        {
            return formatter.Tokenize(row, prompt.LabelScope, prompt.MaximumSequenceLength);
        }
        catch (Exception error) when (error is TemplateException or OptionException)
        {
            throw new DatasetException($"Row {number} of the {what} data: {error.Message}", error);
        }
    }
}
