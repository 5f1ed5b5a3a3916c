using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;
using MLNetLora.Training.Planning;

namespace MLNetLora.TextGeneration;

/// <summary>Rows become tokens, and tokens train an adapter.</summary>
/// <param name="checkpoint">The base.</param>
/// <param name="prompt">How a row becomes a prompt.</param>
internal sealed class FineTuning(Checkpoint checkpoint, PromptOptions prompt)
{
    private readonly QwenTokenizer _tokenizer = QwenTokenizer.Load(checkpoint.Folder);

    /// <summary>Trains; on cancellation the summary says so, and the adapter is that of the last whole step.</summary>
    /// <param name="rows">What is learned; enumerated once.</param>
    /// <param name="validationRows">Rows whose loss is measured; null for none.</param>
    /// <param name="training">The training's options, with the base as the user calls it: as PEFT does, the adapter remembers a hub id, which means the same on
    /// every machine, and not the folder of its snapshot.</param>
    /// <param name="baseModel">What the base is known by.</param>
    /// <param name="run">Where the run writes and what it goes on from.</param>
    /// <param name="progress">Called after every optimizer step.</param>
    /// <param name="callbacks">What follows the run; hears of its beginning and of its checkpoints here, of its steps and its end from the caller.</param>
    /// <param name="notice">Receives messages for the log.</param>
    /// <param name="warn">Receives warnings for the log, which are in the summary too.</param>
    /// <param name="cancellationToken">Ends the training early.</param>
    public (LoraAdapter Adapter, TrainingSummary Summary) Train(
        IEnumerable<TextRow> rows,
        IEnumerable<TextRow>? validationRows,
        QwenLoraTrainer.Options training,
        BaseModelRecord baseModel,
        RunStart run,
        Action<TrainingProgress> progress,
        RunCallbacks callbacks,
        Action<string> notice,
        Action<string> warn,
        CancellationToken cancellationToken)
    {
        // What is wrong with base, adapter and folder is told before the rows are read.
        LoraAdapter? read = training.InitialAdapter is null ? null : LoraAdapter.LoadPeft(training.InitialAdapter, checkpoint);
        if (read is not null)
        {
            RequireShape(training, read.Options);
            BadNumbers.RequireNone(read);
        }

        LoraOptions lora = read?.Options.With(o => o.Dropout = training.Dropout) ?? training.Lora;
        CapturedRuns.RequireFor(training.Device, checkpoint.Config, checkpoint.Folder);
        if (training.Method == FineTuningMethod.Full)
        {
            FullTraining.RequireTrainable(checkpoint.Config, checkpoint.Folder, checkpoint);
            RequireUsable(training.OutputFolder!, run.IsOwn);
        }
        else
        {
            _ = TrainingTarget.Lora(checkpoint, lora);
        }

        RowTokenizer rowTokenizer = NewRowTokenizer(training.Threads);
        Preflight preflight = NewPreflight();
        List<TrainingRow> learned = [.. rowTokenizer.Tokenize(rows, "training", preflight)];
        PromptSettings asked = rowTokenizer.AsTrained;
        Preflight ofValidation = new(_tokenizer, samples: 0, checkpoint.Config.ContextLength);
        List<TrainingRow> validation = validationRows is null ? [] : [.. rowTokenizer.Tokenize(validationRows, "validation", ofValidation)];

        notice(FormattableString.Invariant($"{preflight.Rows} training rows, {ofValidation.Rows} for validation."));
        notice(preflight.Statistics);
        RunIdentity identity = RunOptions.Identity(training, lora, baseModel, learned, validation);
        IReadOnlyList<string> changes = run.From?.Identity.Require(identity, run.From.Folder, training.ResumeWithChanges) ?? [];
        string[] warnings = [.. preflight.Warnings("training"), .. ofValidation.Warnings("validation"), .. read?.Warnings ?? [], .. changes];
        foreach (string warning in warnings)
        {
            warn(warning);
        }

        RowChecks.Refuse(warnings, training);
        RunCheckpoints checkpoints = new(training.WritesCheckpoints ? run.Folder : null, identity, run.From)
        {
            Warn = warn,
            Saved = callbacks.Saved,
        };
        if (learned.Count > 0)
        {
            LoraOptions? adapted = training.Method == FineTuningMethod.Full ? null : lora;
            new RunMemory(checkpoint.Config, checkpoint, adapted, training, learned, validation) { HasInitial = read is not null }.Require();
        }

        if (training.Method == FineTuningMethod.Full)
        {
            notice(FormattableString.Invariant($"All {checkpoint.TextParameterCount:N0} parameters are trained."));
            Begin(checkpoint.TextParameterCount, checkpoint.ParameterCount);
            return TrainAll(learned, validation, training, asked, progress, callbacks, warnings, checkpoints, cancellationToken);
        }

        LoraAdapter start = read ?? (run.From is null ? LoraTraining.Fresh(lora, checkpoint, training, cancellationToken)
            : LoraTraining.FreshShape(lora, checkpoint));
        LoraAdapter initial = new(start.Options, training.ModelPath, start.Factors, start.Saved, start.Tokens) { Prompt = asked };
        notice(initial.DescribeParameters(checkpoint));
        Begin(initial.ParameterCount, initial.ParametersWith(checkpoint));
        return LoraTraining.Train(checkpoint, lora, learned, training, validation, progress, initial, warnings, checkpoints, cancellationToken);

        void Begin(long trainable, long all)
        {
            if (learned.Count > 0)
            {
                callbacks.Begin(Describe(training, run.From, learned, preflight, ofValidation.Rows, trainable, all, warnings));
            }
        }
    }

    /// <summary>What is known of a run before its first step.</summary>
    private static TrainingStart Describe(QwenLoraTrainer.Options training, SavedRun? from, List<TrainingRow> learned, Preflight preflight,
        long validationRows, long trainable, long all, string[] warnings) => new()
        {
            FirstStep = (from?.State.Step ?? 0) + 1,
            EarlierSteps = from?.Steps ?? [],
            ModelPath = training.ModelPath,
            Method = training.Method.ToString(),
            TotalSteps = Schedule.TotalSteps(Packing.Sequences(learned, training).Count, training),
            Rows = preflight.Rows,
            ValidationRows = validationRows,
            Tokens = preflight.Tokens,
            LabelTokens = preflight.LabelTokens,
            DataStatistics = preflight.Statistics,
            TrainableParameters = trainable,
            AllParameters = all,
            Options = OptionList.Of(training),
            Seed = training.SeedOrDefault,
            Device = (training.Device ?? Device.Cpu).ToString(),
            StartTime = DateTimeOffset.Now,
            Warnings = warnings,
        };

    /// <summary>Trains every weight, and writes a checkpoint: first the weights, last the configuration, without which no folder is one.</summary>
    private (LoraAdapter None, TrainingSummary Summary) TrainAll(
        List<TrainingRow> learned,
        List<TrainingRow> validation,
        QwenLoraTrainer.Options training,
        PromptSettings asked,
        Action<TrainingProgress> progress,
        RunCallbacks callbacks,
        string[] warnings,
        RunCheckpoints checkpoints,
        CancellationToken cancellationToken)
    {
        checkpoints.WriteModel = target => WriteBeside(target, asked);
        string folder = Path.GetFullPath(training.OutputFolder!);
        Directory.CreateDirectory(folder);
        string weights = Path.Combine(folder, WeightFiles.SingleName);
        TrainingSummary summary = FullTraining.Train(
            checkpoint.Folder, learned, training, weights, type: null, checkpoint, validation, progress, checkpoints, cancellationToken);
        summary = summary with { Warnings = [.. warnings.Union(summary.Warnings)] };
        if (summary.Steps.Count > 0)
        {
            try
            {
                WriteBeside(folder, asked);
                callbacks.Saved(summary.Steps[^1].Step, folder);
            }
            catch (Exception e)
            {
                TrainingException error = TrainingException.In(summary.Steps[^1].Step, summary.Steps[^1].TotalSteps, summary.Steps[^1].Step, e);
                error.Keep($"The weights are in {weights}; the files beside those of {checkpoint.Folder}, config.json and the tokenizer's, belong to them.");
                throw error;
            }
        }

        return (LoraAdapter.None(folder).WithPrompt(asked), summary);
    }

    /// <summary>Refuses options that ask for another shape than that of the adapter to go on from.</summary>
    private static void RequireShape(QwenLoraTrainer.Options asked, LoraOptions file)
    {
        string[] changed = [.. asked.Lora.Changed()];
        foreach ((string option, object value, object expected) in (ReadOnlySpan<(string, object, object)>)
        [
            (nameof(LoraOptions.Rank), asked.Rank, file.Rank),
            (nameof(LoraOptions.Alpha), asked.Alpha, file.Alpha),
            (nameof(LoraOptions.UseRsLora), asked.UseRsLora, file.UseRsLora),
            (nameof(LoraOptions.UseDora), asked.UseDora, file.UseDora),
            (nameof(LoraOptions.Bias), asked.Bias, file.Bias),
        ])
        {
            Require.That(!changed.Contains(option) || value.Equals(expected), option, value, FormattableString.Invariant(
                $"{expected}, or left out, when {nameof(QwenLoraTrainer.Options.InitialAdapter)} is {asked.InitialAdapter}, whose shape stays"));
        }
    }

    /// <summary>Writes what else belongs to a checkpoint.</summary>
    private void WriteBeside(string folder, PromptSettings asked)
    {
        using FileSet files = new(folder);
        foreach (string path in Merge.Companions(checkpoint).Where(path => !path.EndsWith(".index.json", StringComparison.Ordinal)))
        {
            files.Copy(path, CancellationToken.None); // hours of training must not end with it
        }

        asked.Save(files);
        files.Commit(QwenConfig.FileName);
    }

    /// <summary>Refuses a folder whose files would be read beside the new ones, and one that cannot be written to.</summary>
    /// <param name="outputFolder">The folder.</param>
    /// <param name="isOwn">Whether what it holds is of the same run, which was stopped, and will be replaced.</param>
    private void RequireUsable(string outputFolder, bool isOwn)
    {
        const string option = nameof(QwenLoraTrainer.Options.OutputFolder);
        try
        {
            string folder = Path.GetFullPath(outputFolder);
            bool isNew = !Directory.Exists(folder);
            Directory.CreateDirectory(folder);
            string? present = Directory.EnumerateFiles(folder).Select(Path.GetFileName).FirstOrDefault(
                name => name is LoraAdapter.ConfigName || name!.Contains(".safetensors", StringComparison.Ordinal)) ?? Merge.Stray(checkpoint, folder);
            if (present is not null && !isOwn)
            {
                throw new OptionException($"{option} is {folder}, which holds {present}; give an empty folder.");
            }

            string probe = Path.Combine(folder, $".{Guid.NewGuid():N}");
            File.WriteAllBytes(probe, []);
            File.Delete(probe);
            if (isNew)
            {
                Directory.Delete(folder); // what is wrong with the rows leaves nothing behind
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new OptionException($"{option} is {outputFolder}, which cannot be written to: {e.Message} Give a folder for the trained checkpoint.", e);
        }
    }

    /// <summary>The run that <see cref="Train"/> would make, its rows as tokens.</summary>
    /// <param name="rows">What would be learned.</param>
    /// <param name="validationRows">Rows whose loss would be measured; null for none.</param>
    /// <param name="training">Its options.</param>
    public PlannedRun Planned(IEnumerable<TextRow> rows, IEnumerable<TextRow>? validationRows, QwenLoraTrainer.Options training)
    {
        LoraAdapter? read = training.InitialAdapter is null ? null : LoraAdapter.LoadPeft(training.InitialAdapter, checkpoint);
        LoraOptions lora = read?.Options.With(o => o.Dropout = training.Dropout) ?? training.Lora;
        RowTokenizer tokenizer = NewRowTokenizer(training.Threads);
        List<TrainingRow> learned = [.. tokenizer.Tokenize(rows, "training", NewPreflight())];
        List<TrainingRow> validation = validationRows is null ? []
            : [.. tokenizer.Tokenize(validationRows, "validation", new Preflight(_tokenizer, samples: 0, checkpoint.Config.ContextLength))];
        return new PlannedRun(checkpoint, training.Method == FineTuningMethod.Full ? null : lora, training, learned, validation)
        {
            HasInitial = read is not null,
        };
    }

    /// <summary>Looks at what would be trained on.</summary>
    /// <param name="rows">The rows, enumerated once.</param>
    /// <param name="threads">How many threads; 0 takes all cores.</param>
    public Preflight Inspect(IEnumerable<TextRow> rows, int threads)
    {
        Preflight preflight = NewPreflight();
        foreach (TrainingRow _ in NewRowTokenizer(threads).Tokenize(rows, "training", preflight))
        {
            // Only counted: the rows of a large file need not fit into memory.
        }

        return preflight;
    }

    /// <summary>The tokens of rows whose answers are scored; at least one row has a label.</summary>
    /// <param name="rows">The rows, enumerated once.</param>
    /// <param name="what">What messages call the rows.</param>
    /// <param name="threads">How many threads; 0 takes all cores.</param>
    /// <param name="warn">Receives what is lost of them.</param>
    public IReadOnlyList<TrainingRow> Tokenize(IEnumerable<TextRow> rows, string what, int threads, Action<string> warn)
    {
        Preflight preflight = new(_tokenizer, samples: 0, checkpoint.Config.ContextLength);
        List<TrainingRow> tokenized = [.. NewRowTokenizer(threads).Tokenize(rows, what, preflight)];
        foreach (string warning in preflight.Warnings(what))
        {
            warn(warning);
        }

        return tokenized;
    }

    private RowTokenizer NewRowTokenizer(int threads) =>
        new(new RowFormatter(_tokenizer, checkpoint.Folder, prompt.Settings), prompt, checkpoint.Config.VocabSize, threads);

    /// <summary>A preflight that says what is to be known about the checkpoint.</summary>
    private Preflight NewPreflight()
    {
        Preflight preflight = new(_tokenizer, context: checkpoint.Config.ContextLength);
        if (StopCheck.Warning(checkpoint.Folder, checkpoint.Config, _tokenizer) is { } warning)
        {
            preflight.Warn(warning);
        }

        return preflight;
    }
}
