using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>Fine-tunes a Qwen checkpoint with LoRA on rows of instruction, optional input and output; made by <c>ml.TextGeneration.Trainers.QwenLora</c>.</summary>
/// <remarks>
/// <para>The training data is read once, in its order, and kept as text. The frozen weights stay in the checkpoint's own files; only the LoRA factors are trained.</para>
/// <para>Messages go to <c>MLContext.Log</c>: one Info message at the start, at each validation and at the end, one Trace message per optimizer step.</para>
/// </remarks>
public sealed partial class QwenLoraTrainer : IEstimator<QwenLoraTransformer>
{
    private readonly MLContext _context;
    private readonly IHost _host;
    private readonly Options _options;
    private readonly int _seed;

    internal QwenLoraTrainer(MLContext context, Options options)
    {
        options.Validate();
        _context = context;
        _options = options.Snapshot();
        _host = ((IHostEnvironment)context).Register(nameof(QwenLoraTrainer));
        _seed = _options.Seed ?? MLNetInternals.Seed(context) ?? _host.Rand.Next();
    }

    /// <summary>Trains, and returns base plus adapter as a transformer that adds the answer column. Takes minutes to hours.</summary>
    /// <param name="input">The training rows: a text column each for instruction and output, and where there is one, input.</param>
    /// <returns>The transformer, to be disposed by the caller; after a cancellation it holds the adapter of the last whole step.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    /// <exception cref="DatasetException">The data has no rows, or a row has no instruction or no answer.</exception>
    /// <exception cref="CheckpointException">The base checkpoint cannot be used.</exception>
    /// <exception cref="TrainingDivergedException">The loss is not a finite number any more; the exception carries the adapter of the last good step.</exception>
    /// <exception cref="OperationCanceledException">Cancelled before the first optimizer step.</exception>
    public QwenLoraTransformer Fit(IDataView input)
    {
        ArgumentNullException.ThrowIfNull(input);
        CancellationToken cancellationToken = _options.CancellationToken;
        cancellationToken.ThrowIfCancellationRequested();
        ColumnNames columns = _options.Columns;

        // Everything that can be wrong with the input is found before the first step.
        TrainingRows.Check(input.Schema, columns);
        ITextGenerationBackend backend = ContextSettings.Of(_context).Backend;
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(_options.ModelPath));
        BaseModelRecord baseModel = BaseModelRecord.Create(_options.ModelPath, checkpoint);
        List<InstructionRow> rows = TrainingRows.Read(input, columns, "training", cancellationToken);
        List<InstructionRow>? validationRows = _options.ValidationSet is { } validation ? TrainingRows.Read(validation, columns, "validation", cancellationToken) : null;

        using IChannel channel = _host.Start("Fit");
        Info(channel, $"Fine-tuning {_options.ModelPath} on {rows.Count} rows, {validationRows?.Count ?? 0} for validation; seed {_seed}.");
        TrainingRequest request = new(checkpoint, _options.ModelPath, rows, validationRows, _options.ToLoraOptions(), _options.ToTrainingOptions(_seed), _options.Prompt,
            message => channel.Info(MessageSensitivity.UserData, message));
        (LoraAdapter adapter, TrainingSummary summary) = backend.Train(request, progress => Report(channel, progress), cancellationToken);
        if (summary.WasCancelled && summary.Steps.Count == 0)
        {
            throw new OperationCanceledException("The training was cancelled before its first optimizer step.", cancellationToken);
        }

        ReportEnd(channel, summary);
        QwenLoraTransformer transformer = new(backend, new QwenLoraModel(adapter, baseModel, checkpoint.Folder, columns, _options.Prompt, _options.Generation, _options.WeightPrecision), summary);
        transformer.GetOutputSchema(input.Schema);
        return transformer;
    }

    /// <summary>Checks the columns of a pipeline that is not fitted yet, and adds the answer column to them.</summary>
    /// <param name="inputSchema">What comes before in the pipeline.</param>
    /// <returns>The same columns and a text column for the answer.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    public SchemaShape GetOutputSchema(SchemaShape inputSchema)
    {
        ArgumentNullException.ThrowIfNull(inputSchema);
        ColumnNames columns = _options.Columns;
        TextColumns.Require(inputSchema, columns.Instruction, nameof(Options.InstructionColumnName));
        TextColumns.Require(inputSchema, columns.Output, nameof(Options.OutputColumnName));
        if (columns.InputIsRequired)
        {
            TextColumns.Require(inputSchema, columns.Input!, nameof(Options.InputColumnName));
        }
        else
        {
            TextColumns.CheckType(inputSchema, columns.Input, nameof(Options.InputColumnName));
        }

        return new SchemaShape(inputSchema.Where(column => column.Name != columns.Answer).Append(MLNetInternals.TextColumn(columns.Answer)));
    }

    private void Report(IChannel channel, TrainingProgress progress)
    {
        channel.Trace(MessageSensitivity.None, FormattableString.Invariant(
            $"Step {progress.Step}/{progress.TotalSteps}, epoch {progress.Epoch:F2}, loss {progress.Loss:F4}, gradient norm {progress.GradientNorm:F3}, learning rate {progress.LearningRate:E2}, {progress.TokensPerSecond:F0} tokens/s, {Clock(progress.Remaining)} left."));
        if (progress.ValidationLoss is { } validationLoss)
        {
            Info(channel, $"Step {progress.Step}/{progress.TotalSteps}, validation loss {validationLoss:F4}.");
        }

        _options.ProgressCallback?.Invoke(progress);
    }

    private static void ReportEnd(IChannel channel, TrainingSummary summary)
    {
        if (summary.WasCancelled)
        {
            channel.Warning(MessageSensitivity.None, FormattableString.Invariant(
                $"Cancelled after {summary.Steps.Count} of {summary.Steps[^1].TotalSteps} steps; the model holds the adapter of the last one."));
        }

        double loss = summary.Steps.Count == 0 ? double.NaN : summary.Steps[^1].Loss;
        Info(channel, $"Done in {Clock(summary.Duration)}: {summary.Steps.Count} steps, last loss {loss:F4}.");
    }

    // Hours may pass 24; TimeSpan's own format would wrap them.
    private static string Clock(TimeSpan time) => FormattableString.Invariant($"{(int)time.TotalHours:D2}:{time.Minutes:D2}:{time.Seconds:D2}");

    // The overload without arguments takes the text as it is; the one with arguments would read braces in a path as a format. Paths are user data.
    private static void Info(IChannel channel, FormattableString message) => channel.Info(MessageSensitivity.UserData, FormattableString.Invariant(message));
}
