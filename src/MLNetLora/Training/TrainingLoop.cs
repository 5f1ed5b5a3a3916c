using System.Diagnostics;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>The training loop, whatever is trained: epochs of accumulation windows of micro-batches, one optimizer step per window.</summary>
internal static class TrainingLoop
{
    private const string ResumeFrom = nameof(TextGeneration.QwenLoraTrainer.Options.ResumeFrom);
    private const string WithChanges = nameof(TextGeneration.QwenLoraTrainer.Options.ResumeWithChanges);

    /// <summary>Runs until all steps are made or the token is cancelled. However it ends, the parameters are those of the last whole step.</summary>
    /// <param name="session">The graphs and the parameters.</param>
    /// <param name="sequences">What is learned: rows, or rows packed one after another.</param>
    /// <param name="validation">Rows whose loss is reported along the way.</param>
    /// <param name="options">The options.</param>
    /// <param name="progress">Called after every step.</param>
    /// <param name="checkpoints">Where the run goes on from and what it writes on the way; null: it begins anew and writes nothing.</param>
    /// <param name="cancellation">Ends the run, in the middle of a kernel too.</param>
    /// <exception cref="TrainingDivergedException">The loss or a gradient is not a finite number.</exception>
    /// <exception cref="TrainingException">Something failed after the first whole step. What fails before comes as it is.</exception>
    public static TrainingSummary Run(TrainingSession session, IReadOnlyList<TrainingRow[]> sequences, IReadOnlyList<TrainingRow> validation,
        TrainingOptions options, Action<TrainingProgress>? progress, RunCheckpoints? checkpoints, CancellationToken cancellation)
    {
        Stopwatch watch = Stopwatch.StartNew();
        int total = Schedule.TotalSteps(sequences.Count, options);
        List<TrainingProgress> steps = [.. checkpoints?.Start?.Steps ?? []];
        LossScale scale = LossScale.For(options.UsedComputeType);
        TrainingState state = checkpoints?.Start?.State ?? TrainingState.Start(scale);
        state = state.Scale.IsDynamic == scale.IsDynamic ? state : state with { Scale = scale }; // gone on with in another type
        (int first, TimeSpan before) = (state.Step, steps.Count == 0 ? TimeSpan.Zero : steps[^1].Elapsed);
        int step = state.Step;
        Require.That(total >= first, "The number of steps", total, FormattableString.Invariant($"at least {first}, which the run has made"));
        bool isWhole = true; // but while the optimizer changes its states
        try
        {
            session.Reserve(sequences.Max(rows => rows.Sum(row => row.InputIds.Length)));
            if (validation.Count > 0 && steps.Count > 0 && steps[^1].ValidationLoss is null && Schedule.Evaluates(first, total, sequences.Count, options)
                && Evaluate(session, validation, options, cancellation) is { } missing)
            {
                // The run was stopped in the middle of it.
                steps[^1] = steps[^1] with { ValidationLoss = missing.Loss, ValidationTokenAccuracy = missing.TokenAccuracy };
            }

            foreach (Window window in Window.From(state, sequences, options).Take(Math.Max(0, total - first)))
            {
                if (EarlyStopping.IsDue(steps, options))
                {
                    break;
                }

                TimeSpan begun = watch.Elapsed;
                step = state.Step + 1;
                Batch[] batches = window.Batches(options.BatchSize, session.Plan.Attention);
                long labels = batches.Sum(batch => (long)batch.LabelIds.Length);
                session.LossScale = state.Scale.Factor;
                foreach ((int i, Batch batch) in batches.Index())
                {
                    session.Add(batch, labels, state.MicroBatch + i, cancellation);
                }

                double loss = session.TakeLoss();
                float norm = session.GradientNorm();
                bool isSkipped = state.Scale.IsDynamic && double.IsFinite(loss) && !float.IsFinite(norm);
                double rate = Schedule.LearningRate(state.Made, total, options);
                TimeSpan ready = watch.Elapsed;
                checkpoints?.Settle(); // the last step's is made of the numbers that now change
                begun += watch.Elapsed - ready; // a disk that is slower than a step is no slower step
                if (isSkipped)
                {
                    session.Skip();
                }
                else
                {
                    DivergenceCheck.Require(state, loss, norm);
                    isWhole = false;
                    session.Update(rate, state.Made + 1);
                    isWhole = true;
                }

                state = state.After(window, batches.Length, isSkipped); // from here on the parameters are those of this step
                DivergenceCheck.RequireScale(state);

                long tokens = batches.Sum(batch => (long)batch.Tokens);
                double speed = tokens / (watch.Elapsed - begun).TotalSeconds;
                bool evaluates = validation.Count > 0 && Schedule.Evaluates(step, total, sequences.Count, options);
                Evaluation? evaluation = evaluates ? Evaluate(session, validation, options, cancellation) : null;
                TimeSpan remaining = watch.Elapsed / (step - first) * (total - step);
                double epoch = window.EpochsAfter(sequences.Count, options);
                steps.Add(new TrainingProgress(step, total, epoch, loss, norm, rate, labels, tokens, speed, before + watch.Elapsed, remaining,
                    evaluation?.Loss)
                {
                    ValidationTokenAccuracy = evaluation?.TokenAccuracy,
                    WasSkipped = isSkipped,
                    LossScale = session.LossScale,
                });
                progress?.Invoke(steps[^1]);
                checkpoints?.After(session.Parameters, state, steps, options, isDue: Schedule.Saves(step, sequences.Count, options));
                if (evaluates && evaluation is null && checkpoints is { Writes: true })
                {
                    cancellation.ThrowIfCancellationRequested(); // a last step that was not evaluated is made good when the run goes on
                }
            }

            DivergenceCheck.RequireAnyStep(state);
            SaveLast();
            TrainingProgress? best = options.LoadBestModelAtEnd ? EarlyStopping.Best(steps) : null;
            if (best is not null && best.Step != state.Step)
            {
                checkpoints!.LoadParameters(best.Step, session.Parameters);
            }

            return Summary(wasCancelled: false);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return Attempt(SaveLast) is { } e ? throw Failed(e) : Summary(wasCancelled: true); // gradients of half a window go with the session
        }
        catch (TrainingDivergedException e) when (checkpoints is not null)
        {
            // None is written of its last whole step: what comes next diverges from there, too. One that is being written may be the newest.
            _ = Attempt(checkpoints.Settle);
            if (checkpoints.Newest is { } newest)
            {
                e.Keep($"The newest checkpoint is {newest}. To go on from it, or from one before where it diverges again, set {ResumeFrom} to it, "
                    + $"{WithChanges} to true, and change what is said above.");
            }

            throw;
        }
        catch (Exception e) when (state.Step > 0 && e is not TrainingException)
        {
            _ = isWhole ? Attempt(SaveLast) : null; // what ended the run is what counts
            throw Failed(e);
        }
        finally
        {
            _ = checkpoints is null ? null : Attempt(checkpoints.Settle); // it reads what the session frees
        }

        TrainingException Failed(Exception e) => TrainingException.In(step, total, state.Made == 0 ? 0 : state.Step, session.Memory?.Advised(e) ?? e);

        // A handler of the log may throw; what was learned must not go with it.
        static Exception? Attempt(Action action)
        {
            try
            {
                action();
                return null;
            }
            catch (Exception e)
            {
                return e;
            }
        }

        // Where a step has failed after the last checkpoint, or somebody has stopped the run, it goes on from its last whole step.
        void SaveLast()
        {
            if (steps.Count == state.Step)
            {
                checkpoints?.After(session.Parameters, state, steps, options, isDue: state.Step > 0 && options.SaveSteps is not 0);
                checkpoints?.Settle();
                checkpoints?.Prune(steps, options); // whoever killed a process may have done it between a new one and the removal of an old one
            }
        }

        TrainingSummary Summary(bool wasCancelled) => new(steps, wasCancelled, before + watch.Elapsed)
        {
            FirstStep = first + 1,
            BestStep = EarlyStopping.Best(steps)?.Step,
            StoppedEarly = !wasCancelled && steps.Count < total,
            Warnings = [.. DivergenceCheck.Warnings(state), .. checkpoints?.Warnings ?? []],
        };
    }

    /// <summary>How to cut the graphs for batches of these sequences: for an ordinary one, of half as many labels again as the average, and so that
    /// the largest still fits.</summary>
    public static ChunkPlan Plan(QwenConfig config, IReadOnlyList<TrainingRow[]> sequences, IReadOnlyList<TrainingRow> validation, TrainingOptions options,
        int maximumLossChunks = 64)
    {
        TrainingRow[][] all = [.. sequences, .. validation.Select(row => new[] { row })];
        int[] labels = [.. all.Select(rows => rows.Sum(row => row.LabelTokens)).OrderDescending()];
        int most = labels.Take(options.BatchSize).Sum();
        int ordinary = Math.Min(most, (int)(1.5 * labels.Average() * options.BatchSize));
        int longest = all.Max(rows => rows.Sum(row => row.InputIds.Length));
        if (options.Device is CudaDevice { Graphs: true })
        {
            CapturedRuns.RequireLength(longest);
            maximumLossChunks = Math.Min(maximumLossChunks, CapturedRuns.MostParts);
        }

        return options.Device is CudaDevice
            ? ChunkPlan.ForCuda(config, longest, ordinary, most, maximumLossChunks,
                flash: options.PackingLength == 0 && options.UsedComputeType != ComputeType.Float32)
            : ChunkPlan.For(config, longest, ordinary, most, maximumLossChunks);
    }

    /// <summary>Means over the label tokens of all rows, without dropout.</summary>
    /// <returns>Null when the token was cancelled on the way.</returns>
    public static Evaluation? Evaluate(TrainingSession session, IReadOnlyList<TrainingRow> rows, TrainingOptions options, CancellationToken cancellation)
    {
        TokenSums sums = default;
        try
        {
            foreach (TrainingRow[] chunk in rows.Chunk(options.BatchSize))
            {
                sums += session.Evaluate(Batch.Of(chunk, session.Plan.Attention), cancellation);
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return null;
        }

        return sums.Mean;
    }
}
