using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Output;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Reports;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Running;

/// <summary>A few rows as they were answered before the training and are after it: what people look at first. They come onto run.html.</summary>
internal static class SampleAnswers
{
    private const int MostTokens = 96; // of an answer: enough to see how the model talks

    /// <summary>Answers the first rows; where that is not possible it is said, since what was trained is saved.</summary>
    /// <param name="screen">Where it is said.</param>
    /// <param name="output">The standard output, which may be lost.</param>
    /// <param name="report">Receives the answers.</param>
    /// <param name="trained">The model after the training.</param>
    /// <param name="options">Of the training.</param>
    /// <param name="rows">Rows with answers; those for validation say more than those that were learned.</param>
    /// <param name="count">How many rows.</param>
    public static void Add(
        Screen screen, TextWriter output, RunReport report, QwenLoraTransformer trained, QwenLoraTrainer.Options options, IDataView rows, int count)
    {
        try
        {
            (TextRow Asked, TextRow Learned)[] samples = Read(rows, options.Columns, count);
            if (samples.Length == 0)
            {
                return; // texts, which ask nothing
            }

            output.WriteLine(FormattableString.Invariant(
                $"answering {samples.Length} rows as before and as now, for run.html (--sample-answers 0 leaves them out)"));
            TextRow[] asked = [.. samples.Select(sample => sample.Asked)];
            GenerationOptions generation = new()
            {
                MaximumNewTokens = MostTokens,
                Temperature = 0,
                RepetitionPenalty = 1,
                WhenPromptTooLong = PromptOverflow.TruncateLeft,
            };
            IReadOnlyList<GeneratedText> before = Before();
            IReadOnlyList<GeneratedText> after = trained.Engine.Generate(asked, generation, null, screen.Interruption.Token);
            report.AddSamples(samples.Select((sample, i) =>
                new SampleAnswer(Question(sample.Asked), Expected(sample), before[i].Text, after[i].Text)));

            IReadOnlyList<GeneratedText> Before()
            {
                using TextGenerator engine = new(Checkpoint.Open(ModelFolder.Find(options.ModelPath)), null, trained.Model.Prompt.Settings, options.Threads,
                    trained.Model.Precision, options.Device ?? Device.Cpu, cancellation: screen.Interruption.Token);
                return engine.Generate(asked, generation, null, screen.Interruption.Token);
            }
        }
        catch (OperationCanceledException)
        {
            screen.WriteNote("The sample answers were left out of run.html; all else is saved.");
        }
        catch (Exception e) when (e is MLNetLoraException or IOException or UnauthorizedAccessException)
        {
            screen.WriteWarning($"The sample answers were left out of run.html: {e.Message}");
        }
    }

    /// <summary>The first rows that ask something, as they are asked and as they were learned.</summary>
    private static (TextRow Asked, TextRow Learned)[] Read(IDataView rows, ColumnNames names, int count)
    {
        TextColumns text = TextColumns.Of(rows.Schema);
        (RowColumns asked, RowColumns learned) = (RowColumns.Find(names, text, training: false), RowColumns.Find(names, text, training: true));
        using DataViewRowCursor cursor = rows.GetRowCursor(
            asked.Of(rows.Schema, names, training: false).Concat(learned.Of(rows.Schema, names, training: true)).DistinctBy(column => column.Index));
        RowReader question = new(cursor, names, asked, training: false, What);
        RowReader answer = new(cursor, names, learned, training: true, What);
        List<(TextRow, TextRow)> samples = [];
        while (samples.Count < count && cursor.MoveNext())
        {
            if (answer.Read() is { Document: null } row)
            {
                samples.Add((question.Read(), row));
            }
        }

        return [.. samples];

        string What() => $"Row {cursor.Position + 1}";
    }

    private static string Question(TextRow row) => row.Conversation is { } conversation
        ? conversation.Messages[^1].Content ?? ""
        : string.Join("\n", ((string?[])[row.Instruction!.Instruction, row.Instruction.Input]).Where(text => !string.IsNullOrWhiteSpace(text)));

    private static string? Expected((TextRow Asked, TextRow Learned) sample) => sample.Learned.Conversation is { } conversation
        ? conversation.Messages.ElementAtOrDefault(sample.Asked.Conversation!.Messages.Count)?.Content
        : ThinkTags.Split(sample.Learned.Instruction!.Output!).Answer;
}
