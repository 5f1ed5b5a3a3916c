using MLNetLora.Text;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>Turns corpus rows into the training rows of the library, with whichever tokenizer stands behind <see cref="ITextCodec"/>.</summary>
internal static class RowEncoder
{
    /// <summary>Encodes a row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="codec">The tokenizer.</param>
    /// <param name="labelPrompt">Whether the prompt is learned too: a model that starts from noise learns language from every token it sees.</param>
    public static TrainingRow Encode(CorpusRow row, ITextCodec codec, bool labelPrompt)
    {
        List<int> ids = [];
        foreach (TextPart part in row.Prompt)
        {
            if (part.IsControl)
            {
                ids.Add(codec.Special(part.Text));
            }
            else
            {
                ids.AddRange(codec.Encode(part.Text));
            }
        }
        int promptLength = ids.Count;
        ids.AddRange(codec.Encode(row.Answer));
        ids.Add(codec.Special(row.Ending));

        int[] labels = [.. ids];
        // The first token has nothing before it in its own row; in a packed row it must not be learned from the row before.
        Array.Fill(labels, TrainingRow.Ignore, 0, Math.Max(1, labelPrompt ? 1 : promptLength));
        return new TrainingRow([.. ids], labels);
    }
}
