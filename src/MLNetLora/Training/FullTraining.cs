using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Trains every parameter of a model, from random numbers or from a checkpoint, with the same graphs and the same loop as LoRA.</summary>
internal static class FullTraining
{
    /// <summary>Trains a model and writes its weights; with config.json and tokenizer files beside them they are a checkpoint folder.</summary>
    /// <param name="configFolder">Folder with config.json (and generation_config.json).</param>
    /// <param name="rows">Tokenized rows.</param>
    /// <param name="options">The loop's options; the seed also draws the initial weights.</param>
    /// <param name="output">
    /// File that receives the weights: …/model.safetensors. A file that is there already is replaced by a run that made all its steps, and by no
    /// other: what a cancelled or failed run has learned after at least one whole step then goes beside it, to ….interrupted.safetensors. Nothing is
    /// written before the first whole step.
    /// </param>
    /// <param name="type">Type of the trained weights in the file; null: of each that of its tensor in <paramref name="initial"/>.</param>
    /// <param name="initial">A checkpoint to start from, whose tensors that belong to no text (a vision tower) are in the file, too; null draws normal weights
    /// of standard deviation 0.02, norms 1, biases 0, and what the family says otherwise.</param>
    /// <param name="validation">Rows whose loss is reported along the way; null or empty for none.</param>
    /// <param name="progress">Called after every optimizer step.</param>
    /// <param name="checkpoints">Where the run goes on from and what it writes on the way; null: it begins anew and writes nothing.</param>
    /// <param name="cancellation">Ends the run early; what was learned so far is written, see <paramref name="output"/>.</param>
    /// <returns>Every step; where the weights of a cancelled run were written is in its warnings. No steps, and nothing written, where a run that was to go on
    /// was cancelled before it made another one.</returns>
    /// <exception cref="TrainingDivergedException">The loss is not a finite number; the weights of the last good step are written, the message says
    /// where.</exception>
    /// <exception cref="TrainingException">Something failed after the first whole step; the weights of the last one are written, the message says
    /// where.</exception>
    public static TrainingSummary Train(string configFolder, IReadOnlyList<TrainingRow> rows, TrainingOptions options, string output, TensorType? type,
        Checkpoint? initial = null, IReadOnlyList<TrainingRow>? validation = null, Action<TrainingProgress>? progress = null,
        RunCheckpoints? checkpoints = null, CancellationToken cancellation = default)
    {
        options = options.Copy();
        options.Device ??= Device.Cpu;
        options.Validate();
        if (options.Precision != WeightPrecision.Checkpoint)
        {
            throw new OptionException($"{nameof(options.Precision)} is {options.Precision}; when every weight is trained it must be "
                + $"{WeightPrecision.Checkpoint}, since none is frozen.");
        }

        if (options.PrepackWeights)
        {
            throw new OptionException($"{nameof(options.PrepackWeights)} is true; when every weight is trained it must be false, since none is frozen.");
        }

        if (options.LoraPlusRatio is double ratio)
        {
            throw new OptionException(FormattableString.Invariant($"{nameof(options.LoraPlusRatio)} is {ratio}; when every weight is trained it must be ")
                + "null, since there are no factors.");
        }

        RowChecks.CheckBest(validation ?? [], options, checkpoints);
        QwenConfig config = QwenConfig.Read(configFolder);
        RequireTrainable(config, configFolder, initial);
        CapturedRuns.RequireFor(options.Device, config, configFolder);
        RowChecks.Check(rows, config.VocabSize, "training");
        RowChecks.Check(validation ?? [], config.VocabSize, "validation", mayBeEmpty: true);
        RowChecks.CheckSizes(rows, config, options);
        IReadOnlyList<string> warnings = RowChecks.Warnings(rows, validation ?? [], config);
        RowChecks.Refuse(warnings, options);
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(rows, options);
        TrainingTarget target = TrainingTarget.Full(config);
        ChunkPlan plan = TrainingLoop.Plan(config, sequences, validation ?? [], options, target.MaximumLossChunks);
        RunMemory memory = new(config, initial, null, options, rows, validation ?? []);
        memory.Require();
        if (cancellation.IsCancellationRequested)
        {
            return new TrainingSummary([], WasCancelled: true, TimeSpan.Zero) { Warnings = warnings };
        }

        TrainedFile file = new(output, target.Trainables, type, initial);
        file.RequireWritable();
        TrainingSession opened;
        try
        {
            opened = new TrainingSession(target, options, plan, cancellation) { Memory = memory };
        }
        catch (NativeMemoryException e)
        {
            throw memory.Advised(e);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return new TrainingSummary([], WasCancelled: true, TimeSpan.Zero) { Warnings = warnings };
        }

        using TrainingSession session = opened;
        if (checkpoints?.Start is { } start)
        {
            StateTensors.Load(start.Tensors(), session.Parameters);
        }
        else
        {
            Initialize(session.Parameters, target, options.SeedOrDefault, initial);
        }

        if (checkpoints is not null)
        {
            Action<string>? beside = checkpoints.WriteModel;
            checkpoints.WriteModel = folder =>
            {
                new TrainedFile(Path.Combine(folder, WeightFiles.SingleName), target.Trainables, type, initial).Write(session.Parameters);
                beside?.Invoke(folder);
            };
        }

        try
        {
            TrainingSummary summary = TrainingLoop.Run(session, sequences, validation ?? [], options, progress, checkpoints, cancellation);
            summary = summary with { Warnings = [.. warnings, .. summary.Warnings] };
            if (summary.WasCancelled && summary.Steps.Count < summary.FirstStep)
            {
                return summary with { Steps = [] }; // the checkpoint that it would have gone on from has it all
            }

            if (!summary.WasCancelled)
            {
                file.WriteFinished(session.Parameters, summary.Steps.Count);
            }
            else if (summary.Steps.Any(step => !step.WasSkipped))
            {
                string kept = file.WriteUnfinished(session.Parameters, checkpoints is { IsOwn: true });
                string cancelled = $"Cancelled after step {summary.Steps.Count} of {summary.Steps[^1].TotalSteps}: {kept}";
                return summary with { Warnings = [.. summary.Warnings, cancelled] };
            }

            return summary;
        }
        catch (NativeMemoryException e)
        {
            throw memory.Advised(e);
        }
        catch (TrainingException e) when (e.LastGoodStep > 0)
        {
            e.Keep(checkpoints?.Start is { } from && from.State.Step == e.LastGoodStep
                ? $"The weights of the last whole step are in {from.Folder}, which is as it was."
                : file.WriteUnfinished(session.Parameters, checkpoints is { IsOwn: true }));
            throw;
        }
    }

    /// <summary>Refuses models of which not every weight can be trained.</summary>
    /// <param name="config">The model.</param>
    /// <param name="folder">Its folder, for the message.</param>
    /// <param name="initial">The checkpoint to start from; null for none.</param>
    /// <exception cref="OptionException">It is one of them.</exception>
    public static void RequireTrainable(QwenConfig config, string folder, Checkpoint? initial)
    {
        if (config.Experts is not null)
        {
            throw new OptionException($"{folder} is a mixture of experts ({config.ModelType}), whose experts stay frozen: not every weight of it can be "
                + $"trained. Train an adapter, on the experts too ({nameof(LoraOptions)}.{nameof(LoraOptions.TargetParameters)}).");
        }

        if (initial is { IsFourBit: true })
        {
            throw new OptionException($"{initial.Folder} is in 4 bits, whose steps are larger than what training changes: not every weight of it can be "
                + "trained. Take the 16- or 32-bit checkpoint that it was quantized from, or train an adapter.");
        }
    }

    /// <summary>Fills the parameters from a checkpoint, or with random numbers.</summary>
    internal static void Initialize(ParameterSet parameters, TrainingTarget target, int seed, Checkpoint? initial)
    {
        Random random = new(seed);
        Dictionary<string, Func<Random, float>?> drawn = target.Architecture.Tensors(target.Config).ToDictionary(spec => spec.Name, spec => spec.Initial);
        foreach (TrainableTensor tensor in parameters.Tensors)
        {
            parameters.Fill(tensor.Name, (values, name) => Fill(tensor, values));
        }

        void Fill(TrainableTensor tensor, Span<float> values)
        {
            if (initial is not null)
            {
                CheckpointTensor stored = initial.Tensors[tensor.Name];
                stored.File.ReadFloat32(stored.Entry, values);
            }
            else if (drawn[tensor.Name] is { } draw)
            {
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = draw(random);
                }
            }
            else if (tensor.Shape.Count == 1)
            {
                values.Fill(tensor.Name.EndsWith(".bias", StringComparison.Ordinal) ? 0f : 1f);
            }
            else
            {
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = 0.02f * Normal(random);
                }
            }
        }
    }

    /// <summary>Box–Muller.</summary>
    private static float Normal(Random random) => MathF.Sqrt(-2 * MathF.Log(1 - random.NextSingle())) * MathF.Cos(2 * MathF.PI * random.NextSingle());
}
