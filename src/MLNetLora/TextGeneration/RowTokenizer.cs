using MLNetLora.Adapters;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>Rows become tokens for training: on all cores, looked at by a preflight on their way, those with nothing to learn left out.</summary>
/// <param name="formatter">Makes tokens of a row.</param>
/// <param name="prompt">Label scope and maximum length.</param>
/// <param name="vocabulary">Rows of the model's embedding, within which every token must be.</param>
/// <param name="threads">How many threads; 0 takes all cores.</param>
internal sealed class RowTokenizer(RowFormatter formatter, PromptOptions prompt, int vocabulary, int threads)
{
    /// <summary>Whether any answer of the rows that were tokenized first, the training's, thinks; null as long as there was none.</summary>
    private bool? _thinks;

    /// <summary>What to ask with what is trained on the rows that were tokenized first.</summary>
    public PromptSettings AsTrained => formatter.AsTrained(_thinks);

    /// <summary>The tokenized rows that have something to learn, made while they are enumerated: a long file is never in memory.</summary>
    /// <param name="rows">The rows, enumerated once.</param>
    /// <param name="what">"training" or "validation", for the messages.</param>
    /// <param name="preflight">Looks at every row, those that are left out too; complete when the enumeration is.</param>
    /// <exception cref="DatasetException">A row is wrong, or none has anything to learn; the message names rows by number, from 1.</exception>
    public IEnumerable<TrainingRow> Tokenize(IEnumerable<TextRow> rows, string what, Preflight preflight)
    {
        long losing = 0;
        bool hasAnswers = false;
        bool hasThinking = false;
        IEnumerable<(TextRow Row, int Number)> numbered = rows.Select((row, index) =>
        {
            hasAnswers |= row.Document is null;
            return (row, index + 1);
        });
        foreach (IReadOnlyList<TokenizedRow> parts in ParallelRows.Convert(numbered, row => Tokenize(row.Row, row.Number, what), threads))
        {
            preflight.Add(parts, preflight.Rows + 1);
            hasThinking |= parts.Any(part => part.Report.HasThinking);
            losing += parts.Any(part => part.Report.LosesThinking) ? 1 : 0;
            foreach (TokenizedRow part in parts.Where(part => part.Row.LabelTokens > 0))
            {
                yield return part.Row;
            }
        }

        preflight.Check(what);
        _thinks ??= hasAnswers ? hasThinking : null;
        if (losing > 0)
        {
            preflight.Warn(
                $"{losing} of {preflight.Rows} {what} rows bring reasoning (reasoning_content) that the checkpoint's chat template does not write, so that it "
                + "is not learned. Take a checkpoint that thinks, or write it into the answer as <think>…</think>.");
        }

        if (prompt.EnableThinking == true && hasAnswers && !hasThinking)
        {
            preflight.Warn(
                $"EnableThinking is true, but no answer of the {what} rows has reasoning (reasoning_content, or <think>…</think> before the answer): "
                + "the model learns to answer without thinking when it is asked to think. Leave EnableThinking null or set it to false, or add the reasoning.");
        }
    }

    private IReadOnlyList<TokenizedRow> Tokenize(TextRow row, int number, string what)
    {
        string where = $"Row {number} of the {what} data";
        try
        {
            IReadOnlyList<TokenizedRow> parts = formatter.Tokenize(row, prompt.LabelScope, prompt.MaximumSequenceLength);
            foreach (TokenizedRow part in parts)
            {
                RowChecks.Check(part.Row, vocabulary, where);
            }

            return parts;
        }
        catch (Exception error) when (error is TemplateException or OptionException)
        {
            throw new DatasetException($"{where}: {error.Message}", error);
        }
    }
}
