using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Trains a LoRA adapter on a frozen checkpoint.</summary>
internal static class LoraTraining
{
    /// <summary>Trains and returns the adapter with a record of every step.</summary>
    /// <param name="checkpoint">The base; its files are mapped, never copied or changed.</param>
    /// <param name="lora">Shape of the adapter; taken from <paramref name="initial"/> where that is given, but for the dropout.</param>
    /// <param name="rows">Tokenized rows.</param>
    /// <param name="options">The loop's options.</param>
    /// <param name="validation">Rows whose loss is reported along the way; null or empty for none.</param>
    /// <param name="progress">Called after every optimizer step, on the calling thread.</param>
    /// <param name="initial">An adapter to go on from; null starts a fresh one.</param>
    /// <param name="warnings">What is known to be lost of the data, for the summary; null: the rows are looked at here.</param>
    /// <param name="checkpoints">Where the run goes on from and what it writes on the way; null: it begins anew and writes nothing.</param>
    /// <param name="cancellation">Ends the run, in its preparation and in the middle of a micro-batch too; the adapter of the last whole step is
    /// returned.</param>
    /// <exception cref="OptionException">An option makes no sense, or the run would take more memory than there is.</exception>
    /// <exception cref="TrainingWarningException">There are warnings, and <see cref="TrainingOptions.WarningsAsErrors"/> is true.</exception>
    /// <exception cref="DatasetException">There is no row, a row has no label or an id outside the vocabulary.</exception>
    /// <exception cref="AdapterException">A target matches no layer.</exception>
    /// <exception cref="TrainingDivergedException">The loss is not a finite number; the exception carries the adapter of the last good step.</exception>
    /// <exception cref="TrainingException">Something failed after the first whole step (the runtime, a file, the callback); the exception carries the
    /// adapter of the last one.</exception>
    public static (LoraAdapter Adapter, TrainingSummary Summary) Train(Checkpoint checkpoint, LoraOptions lora, IReadOnlyList<TrainingRow> rows,
        TrainingOptions options, IReadOnlyList<TrainingRow>? validation = null, Action<TrainingProgress>? progress = null, LoraAdapter? initial = null,
        IReadOnlyList<string>? warnings = null, RunCheckpoints? checkpoints = null, CancellationToken cancellation = default)
    {
        options = options.Copy();
        options.Device ??= Device.Cpu;
        options.Validate();
        lora.Validate();
        RowChecks.CheckBest(validation ?? [], options, checkpoints);
        CapturedRuns.RequireFor(options.Device, checkpoint.Config, checkpoint.Folder);
        RowChecks.Check(rows, checkpoint.Config.VocabSize, "training");
        RowChecks.Check(validation ?? [], checkpoint.Config.VocabSize, "validation", mayBeEmpty: true);
        RowChecks.CheckSizes(rows, checkpoint.Config, options);
        warnings ??= RowChecks.Warnings(rows, validation ?? [], checkpoint.Config);
        RowChecks.Refuse(warnings, options);
        initial?.RequireFit(checkpoint);
        Prepacking.RequireWhole(checkpoint, options);
        LoraOptions shape = (initial?.Options ?? lora).With(o => o.Dropout = lora.Dropout);
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(rows, options);
        TrainingTarget target = TrainingTarget.Lora(checkpoint, shape);
        ChunkPlan plan = TrainingLoop.Plan(checkpoint.Config, sequences, validation ?? [], options, target.MaximumLossChunks);
        RunMemory memory = new(checkpoint.Config, checkpoint, shape, options, rows, validation ?? []) { HasInitial = initial is not null };
        memory.Require();
        LoraAdapter? start = initial;
        try
        {
            SafetensorsFile? saved = checkpoints?.Start?.Tensors();
            start = saved is null ? start ?? Fresh(lora, checkpoint, options, cancellation) : Restored(start ?? FreshShape(lora, checkpoint), saved);
            target = target with { Initial = [.. start.Factors.Where(factors => factors.Initial is not null).Select(factors => factors.Module)] };
            TrainingTarget prepared = Calibration.Prepare(target, options, plan, sequences, cancellation);
            using TrainingSession session = new(prepared, options, plan, cancellation) { Memory = memory };
            session.Hold(start);
            LoraParameters.Load(session.Parameters, start);
            if (saved is not null)
            {
                StateTensors.Load(saved, session.Parameters);
            }

            return Run(session);
        }
        catch (NativeMemoryException e)
        {
            throw memory.Advised(e);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // Cancelled while the run was prepared: no step was made, as the summary says.
            LoraOptions plain = lora.With(o => o.Initialization = LoraInitialization.Default);
            start ??= LoraAdapter.Create(plain, checkpoint, options.SeedOrDefault, CancellationToken.None);
            return (start.ForWholeBase(), new TrainingSummary([], WasCancelled: true, TimeSpan.Zero) { Warnings = warnings });
        }

        (LoraAdapter, TrainingSummary) Run(TrainingSession session)
        {
            if (checkpoints is not null)
            {
                checkpoints.WriteModel = folder => Snapshot(session).SaveAsPeft(folder);
                checkpoints.Held = Held(start);
            }

            try
            {
                TrainingSummary summary = TrainingLoop.Run(session, sequences, validation ?? [], options, progress, checkpoints, cancellation);
                return (Snapshot(session), summary with { Warnings = [.. warnings, .. summary.Warnings] });
            }
            catch (TrainingException e) when (e.LastGoodStep > 0)
            {
                e.Keep(Snapshot(session));
                throw;
            }
        }

        LoraAdapter Snapshot(TrainingSession session) => LoraParameters.Snapshot(session.Parameters, shape, start).ForWholeBase();
    }

    /// <summary>What an adapter takes out of the base, by the names of the graph's inputs.</summary>
    private static (string Name, float[] Numbers)[] Held(LoraAdapter start) =>
    [
        .. from factors in start.Factors
           where factors.Initial is not null
           let names = TrainingTarget.InitialNames(factors.Module)
           from item in ((string, float[])[])[(names.A, factors.Initial!.Value.A), (names.B, factors.Initial!.Value.B)]
           select item,
    ];

    /// <summary>An adapter of the shape of a run's, whose numbers come from a checkpoint: nothing is decomposed for it.</summary>
    internal static LoraAdapter FreshShape(LoraOptions lora, Checkpoint checkpoint) =>
        LoraAdapter.Create(lora.With(o => o.Initialization = LoraInitialization.Default), checkpoint, seed: 0, CancellationToken.None);

    /// <summary>With what was taken out of the base at the start of the run.</summary>
    private static LoraAdapter Restored(LoraAdapter adapter, SafetensorsFile saved) => new(adapter.Options, adapter.BaseModel,
        [.. adapter.Factors.Select(factors =>
        {
            (string nameA, string nameB) = TrainingTarget.InitialNames(factors.Module);
            return StateTensors.Held(saved, nameA, factors.A.Length) is { } a && StateTensors.Held(saved, nameB, factors.B.Length) is { } b
                ? factors with { Initial = (a, b) }
                : factors;
        })], adapter.Saved, adapter.Tokens)
    {
        Prompt = adapter.Prompt,
    };

    /// <summary>A fresh adapter for the weights that a run will see: with 4 bits those, which DoRA's magnitudes and PiSSA's factors are made from.</summary>
    internal static LoraAdapter Fresh(LoraOptions lora, Checkpoint checkpoint, TrainingOptions options, CancellationToken cancellation) =>
        LoraAdapter.Create(lora, FourBitCache.Open(checkpoint, options.Precision, options.Threads, cancellation), options.SeedOrDefault, cancellation);
}
