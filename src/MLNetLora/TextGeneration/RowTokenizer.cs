using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Rows become tokens for training: on all cores, looked at by a preflight on their way, those with nothing to learn left out.</summary>
/// <param name="formatter">Makes tokens of a row.</param>
/// <param name="prompt">Label scope and maximum length.</param>
/// <param name="threads">How many threads; 0 takes all cores.</param>
internal sealed class RowTokenizer(RowFormatter formatter, PromptOptions prompt, int threads)
{
    /// <summary>The tokenised rows that have something to learn, made while they are enumerated: a long file is never in memory.</summary>
    /// <param name="rows">The rows, enumerated once.</param>
    /// <param name="what">"training" or "validation", for the messages.</param>
    /// <param name="preflight">Looks at every row, those that are left out too; complete when the enumeration is.</param>
    /// <exception cref="DatasetException">A row is wrong, or none has anything to learn; the message names rows by number, from 1.</exception>
    public IEnumerable<TrainingRow> Tokenize(IEnumerable<TextRow> rows, string what, Preflight preflight)
    {
        bool hasAnswers = false;
        bool hasThinking = false;
        IEnumerable<(TextRow Row, int Number)> numbered = rows.Select((row, index) =>
        {
            hasAnswers |= row.Document is null;
            hasThinking = hasThinking || Thinks(row);
            return (row, index + 1);
        });
        foreach (IReadOnlyList<TokenizedRow> parts in ParallelRows.Convert(numbered, row => Tokenize(row.Row, row.Number, what), threads))
        {
            preflight.Add(parts, preflight.Rows + 1);
            foreach (TokenizedRow part in parts.Where(part => part.Row.LabelTokens > 0))
            {
                yield return part.Row;
            }
        }

        preflight.Check(what);
        if (prompt.EnableThinking == true && hasAnswers && !hasThinking)
        {
            preflight.Warn(
                $"EnableThinking is true, but no answer of the {what} rows has reasoning (reasoning_content, or <think>…</think> before the answer): "
                + "the model learns to answer without thinking when it is asked to think. Leave EnableThinking null or set it to false, or add the reasoning.");
        }
    }

    private static bool Thinks(TextRow row) => row.Conversation is { } conversation
        ? conversation.Messages.Any(message => message.Role == "assistant" && (!string.IsNullOrWhiteSpace(message.Thinking) || HoldsThinking(message.Content)))
        : HoldsThinking(row.Instruction?.Output);

    private static bool HoldsThinking(string? answer) => answer?.Contains("</think>", StringComparison.Ordinal) == true;

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
