using System.Globalization;
using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>Fine-tunes a Qwen checkpoint with LoRA on instructions, conversations and documents; made by <c>ml.TextGeneration.Trainers.QwenLora</c>.</summary>
/// <remarks>
/// <para>A row is an instruction (columns Instruction and Output, where they are there also Input, System and History), a conversation (column
/// Conversation, JSON) or a document (column Text); views of <c>ml.Data.LoadFromInstructionFile</c> have these columns, and any other view that has
/// them will do. The data is read once, in its order, and kept as tokens. The frozen weights stay in the checkpoint's own files; only the LoRA
/// factors are trained.</para>
/// <para>Messages go to <c>MLContext.Log</c>: one Info message at the start, at each validation and at the end, one Trace message per optimizer step;
/// a Warning for whatever is lost of the data or will not be learned, which <see cref="TrainingSummary.Warnings"/> has too, and which
/// <see cref="TrainingOptions.WarningsAsErrors"/> makes an error.</para>
/// </remarks>
public sealed partial class QwenLoraTrainer : IEstimator<QwenLoraTransformer>
{
    private readonly IHost _host;
    private readonly Options _options;
    private readonly DeviceChoice _device;
    private readonly bool _isSeedDrawn; // nobody has chosen it

    internal QwenLoraTrainer(MLContext context, Options options)
    {
        options.Validate();
        _options = options.Copy();
        _device = DeviceChoice.Of(context, options.Device);
        if (!_device.MayFallBack)
        {
            _options.Device = _device.Device;
            _options.Validate(); // with the context's GPU
        }

        _host = ((IHostEnvironment)context).Register(nameof(QwenLoraTrainer));
        _options.Seed ??= MLNetInternals.Seed(context);
        _isSeedDrawn = _options.Seed is null;
        _options.Seed ??= _host.Rand.Next();
    }

    /// <summary>Trains, and returns base plus adapter as a transformer that adds the answer column. Takes minutes to hours.</summary>
    /// <param name="input">The training rows: text columns for instructions, conversations or documents.</param>
    /// <returns>The transformer, to be disposed by the caller; after a cancellation it holds the adapter of the last whole step.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    /// <exception cref="DatasetException">The data has no rows, a row has no instruction or no answer or is not what its column should hold, or
    /// nothing is left to learn.</exception>
    /// <exception cref="TrainingWarningException">Something of the data would be lost, and <see cref="TrainingOptions.WarningsAsErrors"/> is true.</exception>
    /// <exception cref="OptionException"><see cref="Options.EnableThinking"/> is set and the checkpoint's chat template does not read it.</exception>
    /// <exception cref="DeviceException"><see cref="TrainingOptions.Device"/> cannot be used; the message names what is missing.</exception>
    /// <exception cref="CheckpointException">The base checkpoint cannot be used.</exception>
    /// <exception cref="HubException">The base checkpoint cannot be downloaded.</exception>
    /// <exception cref="AdapterException">A target matches no layer, or <see cref="Options.InitialAdapter"/> cannot be used or is for another
    /// base.</exception>
    /// <exception cref="TrainingDivergedException">The loss is not a finite number any more; the exception carries the adapter of the last good
    /// step, and names the newest checkpoint where there is one.</exception>
    /// <exception cref="TrainingException">
    /// Something failed after the first optimizer step: memory ran out, a file vanished, <see cref="Options.ProgressCallback"/>, one of
    /// <see cref="Options.Callbacks"/> or a handler of the log threw. The exception carries the adapter of the last whole step, to be saved with
    /// <c>e.LastGoodAdapter.SaveAsPeft(…)</c>; with <see cref="FineTuningMethod.Full"/> its message says where the weights are. What fails before the first
    /// step comes as it is.
    /// </exception>
    /// <exception cref="OperationCanceledException">
    /// Cancelled, by <see cref="Options.CancellationToken"/> or by <c>MLContext.CancelExecution</c>, before the first optimizer step.
    /// </exception>
    public QwenLoraTransformer Fit(IDataView input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using Cancellation cancellation = new(_host, _options.CancellationToken, CancellationToken.None);
        RunCallbacks callbacks = new(_options.Callbacks, Warn);
        try
        {
            return cancellation.Run(token => Train(input, callbacks, token));
        }
        catch (Exception e)
        {
            callbacks.End(summary: null, e);
            throw;
        }

        // In a channel of its own: a callback may have something to say when that of the run is closed.
        void Warn(string warning)
        {
            using IChannel channel = _host.Start("Fit");
            channel.Warning(MessageSensitivity.UserData, warning);
        }
    }

    private QwenLoraTransformer Train(IDataView input, RunCallbacks callbacks, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        using IChannel channel = _host.Start("Fit");
        ColumnNames columns = _options.Columns;

        // Everything that can be wrong with the input is found before the first step.
        IEnumerable<TextRow> rows = TrainingRows.Read(input, columns, "training", cancellationToken);
        IEnumerable<TextRow>? validationRows = _options.ValidationSet is { } validation
            ? TrainingRows.Read(validation, columns, "validation", cancellationToken)
            : null;
        Checkpoint checkpoint = Checkpoint.Open(ModelDownload.Folder(_options.ModelPath, _options.DownloadModel, channel, cancellationToken));
        Options options = _options.Copy();
        options.Device = _device.Usable(CheckDevice, warning => channel.Warning(MessageSensitivity.None, warning));
        options.ComputeType = options.Device == _device.Device ? options.ComputeType : null; // the processor that takes over has one type
        BaseModelRecord baseModel = BaseModelRecord.Create(_options.ModelPath, checkpoint, cancellationToken);
        using RunStart run = RunStart.Open(options, Notice, Warn);
        if (_isSeedDrawn && int.TryParse(run.From?.Identity.Options.GetValueOrDefault(nameof(options.Seed)), CultureInfo.InvariantCulture, out int seed))
        {
            options.Seed = seed;
        }

        Info(channel, $"Fine-tuning {_options.ModelPath}; seed {options.Seed}.");
        if (options.Device != Device.Cpu)
        {
            Info(channel, $"Training on {options.Device}.");
        }

        LoraAdapter adapter;
        TrainingSummary summary;
        try
        {
            (adapter, summary) = new FineTuning(checkpoint, Prompt()).Train(
                rows,
                validationRows,
                options,
                baseModel,
                run,
                progress => Report(channel, progress, callbacks),
                callbacks,
                Notice,
                Warn,
                cancellationToken);
            if (summary.WasCancelled && summary.Steps.Count == 0)
            {
                throw new OperationCanceledException("The training was cancelled before its first optimizer step.", cancellationToken);
            }
        }
        catch (OperationCanceledException e) when (run.From is { } from && cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException($"The training was cancelled before it made another step. {from.Folder} is as it was: the same call goes on "
                + $"from there, with {nameof(options.ResumeFrom)} set as it is.", e, cancellationToken);
        }

        summary = summary with { Warnings = [.. summary.Warnings, .. callbacks.Warnings] };
        try
        {
            ReportEnd(channel, summary, options, run);
            if (_options.Method == FineTuningMethod.Full)
            {
                checkpoint = Checkpoint.Open(_options.OutputFolder!);
                baseModel = BaseModelRecord.Create(_options.OutputFolder!, checkpoint, CancellationToken.None); // hours of training must not end with it
            }
            else if (run.Folder is not null && !summary.WasCancelled)
            {
                adapter.SaveAsPeft(run.Folder.Path);
                Info(channel, $"The adapter is in {run.Folder.Path}.");
            }

            if (options.WritesCheckpoints)
            {
                TrainerStateFile.Save(run.Folder!, summary.Steps, options);
            }

            PromptOptions prompt = _options.Prompt.With(adapter.Prompt);
            string? refusal = CausalLanguageModel.Refusal(options.Device!, checkpoint, _options.WeightPrecision);
            if (refusal is not null)
            {
                channel.Warning(MessageSensitivity.UserData, $"The model that was trained answers on the processor. {refusal}");
            }

            QwenLoraModel model = new(adapter, baseModel, checkpoint.Folder, columns, prompt, _options.Generation, _options.WeightPrecision)
            {
                Threads = _options.Threads,
                Device = refusal is null ? options.Device! : Device.Cpu,
            };
            callbacks.End(summary, error: null);
            return new QwenLoraTransformer(model, summary, _host);
        }
        catch (Exception e) when (summary.Steps.Count > 0)
        {
            // A log handler, for one: hours of training must not end with it.
            TrainingException error = TrainingException.In(summary.Steps[^1].Step, summary.Steps[^1].TotalSteps, summary.Steps[^1].Step, e);
            if (_options.Method == FineTuningMethod.Full)
            {
                error.Keep($"The weights are in {Path.Combine(Path.GetFullPath(_options.OutputFolder!), WeightFiles.SingleName)}.");
            }
            else
            {
                error.Keep(adapter);
            }

            throw error;
        }

        void Notice(string message) => channel.Info(MessageSensitivity.UserData, message);

        void Warn(string warning) => channel.Warning(MessageSensitivity.UserData, warning);

        void CheckDevice(Device device)
        {
            Options there = _options.Copy();
            there.Device = device;
            there.Validate();
            _ = there.UsedComputeType;
            CapturedRuns.RequireFor(device, checkpoint.Config, checkpoint.Folder);
        }
    }

    /// <summary>Looks at what would be trained on, without training: how much it is, what is cut off, whether the model will learn to stop, and two
    /// rows as the model will see them.</summary>
    /// <param name="input">The training rows.</param>
    /// <returns>The report; <c>Write(Console.Out)</c> shows it, in a terminal with what is learned in green.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    /// <exception cref="DatasetException">As for <see cref="Fit"/>.</exception>
    /// <exception cref="CheckpointException">The base checkpoint cannot be used.</exception>
    /// <exception cref="HubException">The base checkpoint cannot be downloaded.</exception>
    public Preflight Preflight(IDataView input)
    {
        ArgumentNullException.ThrowIfNull(input);
        using Cancellation cancellation = new(_host, _options.CancellationToken, CancellationToken.None);
        return cancellation.Run(token =>
        {
            IEnumerable<TextRow> rows = TrainingRows.Read(input, _options.Columns, "training", token);
            using IChannel channel = _host.Start("Preflight");
            Checkpoint checkpoint = Checkpoint.Open(ModelDownload.Folder(_options.ModelPath, _options.DownloadModel, channel, token));
            return new FineTuning(checkpoint, Prompt()).Inspect(rows, _options.Threads);
        });
    }

    /// <summary>Checks the columns of a pipeline that is not fitted yet, and adds the answer column to them.</summary>
    /// <param name="inputSchema">What comes before in the pipeline.</param>
    /// <returns>The same columns and a text column for the answer.</returns>
    /// <exception cref="ArgumentOutOfRangeException">A column is missing or is not text; the message names it.</exception>
    public SchemaShape GetOutputSchema(SchemaShape inputSchema)
    {
        ArgumentNullException.ThrowIfNull(inputSchema);
        CrossValidation.RequireNoFolder(_options.OutputFolder ?? _options.ResumeFrom);
        ColumnNames columns = _options.Columns;
        RowColumns.Find(columns, TextColumns.Of(inputSchema), training: true);
        IReadOnlyList<AnswerColumn> added = AnswerColumn.Of(columns);
        return new SchemaShape(inputSchema
            .Where(column => added.All(other => other.Name != column.Name))
            .Concat(added.Select(column => MLNetInternals.Column(column.Name, column.Type))));
    }

    /// <summary>How rows become prompts: what the options leave open is asked as the adapter to go on from was trained to be.</summary>
    private PromptOptions Prompt() => _options.InitialAdapter is { } folder ? _options.Prompt.Or(PromptSettings.Load(folder)) : _options.Prompt;

    private void Report(IChannel channel, TrainingProgress progress, RunCallbacks callbacks)
    {
        channel.Trace(MessageSensitivity.None, string.Create(
            CultureInfo.InvariantCulture,
            $"Step {progress.Step}/{progress.TotalSteps}, epoch {progress.Epoch:F2}, loss {progress.Loss:F4}, gradient norm {progress.GradientNorm:F3}, "
            + $"learning rate {progress.LearningRate:E2}, {progress.TokensPerSecond:F0} tokens/s, {Clock(progress.Remaining)} left."));
        if (progress.WasSkipped)
        {
            (int step, int all, double scale) = (progress.Step, progress.TotalSteps, progress.LossScale);
            Info(channel, $"Step {step}/{all} was skipped: gradients overflowed in float16; the loss scale of {scale:G6} is halved.");
        }

        if (progress.ValidationLoss is { } validationLoss)
        {
            (int step, int all, double? perplexity) = (progress.Step, progress.TotalSteps, progress.ValidationPerplexity);
            double? accuracy = progress.ValidationTokenAccuracy;
            Info(channel, $"Step {step}/{all}, validation loss {validationLoss:F4}, perplexity {perplexity:G5}, token accuracy {accuracy:F4}.");
        }

        _options.ProgressCallback?.Invoke(progress);
        callbacks.Step(progress);
    }

    private static void ReportEnd(IChannel channel, TrainingSummary summary, Options options, RunStart run)
    {
        if (summary.WasCancelled)
        {
            string learned = options.Method == FineTuningMethod.Full ? "weights" : "adapter";
            channel.Warning(MessageSensitivity.UserData, FormattableString.Invariant(
                $"Cancelled after {summary.Steps.Count} of {summary.Steps[^1].TotalSteps} steps; the model holds the {learned} of the last one.")
                + (run.Newest is { } newest ? $" Set {nameof(options.ResumeFrom)} to {newest} to go on." : ""));
        }

        if (summary.StoppedEarly)
        {
            (int made, int all) = (summary.Steps.Count, summary.Steps[^1].TotalSteps);
            Info(channel, $"Ended early, after step {made} of {all}: no validation loss since step {summary.BestStep} is lower.");
        }

        double loss = summary.Steps.Count == 0 ? double.NaN : summary.Steps[^1].Loss;
        Info(channel, $"Done in {Clock(summary.Duration)}: {summary.Steps.Count} steps, last loss {loss:F4}.");
    }

    // Hours may pass 24; TimeSpan's own format would wrap them.
    internal static string Clock(TimeSpan time) => FormattableString.Invariant($"{(int)time.TotalHours:D2}:{time.Minutes:D2}:{time.Seconds:D2}");

    // The overload without arguments takes the text as it is; the one with arguments would read braces in a path as a format. Paths are user data.
    private static void Info(IChannel channel, FormattableString message) => channel.Info(MessageSensitivity.UserData, FormattableString.Invariant(message));
}
