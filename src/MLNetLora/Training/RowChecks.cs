using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>What can be wrong with tokenized rows, found before the first step.</summary>
internal static class RowChecks
{
    /// <summary>Throws where rows cannot be trained on.</summary>
    public static void Check(IReadOnlyList<TrainingRow> rows, int vocabulary, string what, bool mayBeEmpty = false)
    {
        if (rows.Count == 0 && !mayBeEmpty)
        {
            throw new DatasetException($"There are no {what} rows.");
        }

        for (int i = 0; i < rows.Count; i++)
        {
            Check(rows[i], vocabulary, $"Row {i + 1} of the {what} rows");
        }

        // A single row without a label does no harm (its tokens count for nothing); who makes rows from text says which one it is.
        if (rows.Count > 0 && rows.All(row => row.LabelTokens == 0))
        {
            throw new DatasetException(
                $"None of the {rows.Count} {what} rows has a label: nothing could be learned. The answers may be empty or cut off by the maximum length.");
        }
    }

    /// <summary>Throws where a batch would be larger than an array can be.</summary>
    public static void CheckSizes(IReadOnlyList<TrainingRow> rows, QwenConfig config, TrainingOptions options)
    {
        long length = Math.Max(rows.Max(row => row.InputIds.Length), options.PackingLength);
        long widest = length * Math.Min(options.BatchSize, rows.Count) * Math.Max(config.IntermediateSize, config.HiddenSize);
        if (widest > Array.MaxLength)
        {
            throw new OptionException($"Batches of {options.BatchSize} x {length} tokens are too large; "
                + $"lower BatchSize, PackingLength or MaximumSequenceLength.");
        }
    }

    /// <summary>Refuses options that need validation rows, or a folder for checkpoints, where there are none.</summary>
    public static void CheckBest(IReadOnlyList<TrainingRow> validation, TrainingOptions options, RunCheckpoints? checkpoints)
    {
        Require.That(options.EarlyStoppingPatience is null || validation.Count > 0, nameof(options.EarlyStoppingPatience), options.EarlyStoppingPatience,
            "null where there are no validation rows");
        Require.That(!options.LoadBestModelAtEnd || validation.Count > 0, nameof(options.LoadBestModelAtEnd), options.LoadBestModelAtEnd,
            "false where there are no validation rows");
        Require.That(!options.LoadBestModelAtEnd || checkpoints is { Writes: true }, nameof(options.LoadBestModelAtEnd), options.LoadBestModelAtEnd,
            "false where no checkpoints are written (OutputFolder)");
    }

    /// <summary>What rows lose in a model: those that are longer than its context. Where they come from text, a <see cref="Preflight"/> says more.</summary>
    public static IReadOnlyList<string> Warnings(IReadOnlyList<TrainingRow> rows, IReadOnlyList<TrainingRow> validation, QwenConfig config)
    {
        return [.. Beyond(rows, "training"), .. Beyond(validation, "validation")];

        IEnumerable<string> Beyond(IReadOnlyList<TrainingRow> rows, string what)
        {
            RowNumbers beyond = new();
            for (int i = 0; i < rows.Count; i++)
            {
                if (rows[i].InputIds.Length > config.ContextLength)
                {
                    beyond.Add(i + 1);
                }
            }

            return beyond.Count == 0 ? [] : [beyond.BeyondContext(rows.Count, $"{what} rows", config.ContextLength)];
        }
    }

    /// <summary>Throws where there are warnings and the option forbids them.</summary>
    public static void Refuse(IReadOnlyList<string> warnings, TrainingOptions options)
    {
        if (options.WarningsAsErrors && warnings.Count > 0)
        {
            throw new TrainingWarningException(warnings);
        }
    }

    /// <summary>Throws where one row cannot be trained on.</summary>
    /// <param name="row">The row.</param>
    /// <param name="vocabulary">Rows of the model's embedding.</param>
    /// <param name="where">What the message calls it: "Row 7 of the training data".</param>
    public static void Check(TrainingRow row, int vocabulary, string where)
    {
        if (row.InputIds.Length != row.Labels.Length)
        {
            throw new DatasetException($"{where} has {row.InputIds.Length} ids but {row.Labels.Length} labels.");
        }

        if (row.InputIds.Length == 0)
        {
            throw new DatasetException($"{where} is empty: it has no token. Leave it out.");
        }

        int outside = Array.FindIndex(row.InputIds, id => !IsToken(id));
        if (outside >= 0)
        {
            throw new DatasetException(
                $"{where} has the token id {row.InputIds[outside]} at position {outside}, but the model's vocabulary ends at {vocabulary - 1}; "
                + "the tokenizer belongs to another model.");
        }

        outside = Array.FindIndex(row.Labels, label => label != TrainingRow.Ignore && !IsToken(label));
        if (outside >= 0)
        {
            throw new DatasetException(
                $"{where} has the label {row.Labels[outside]} at position {outside}, but the model's vocabulary ends at {vocabulary - 1}; "
                + $"positions without a loss have the label {TrainingRow.Ignore}.");
        }

        bool IsToken(int id) => id >= 0 && id < vocabulary;
    }
}
