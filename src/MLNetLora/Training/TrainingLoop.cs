using System.Diagnostics;
using System.Numerics.Tensors;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>The training loop, whatever is trained: epochs of accumulation windows of micro-batches, one optimizer step per window.</summary>
internal static class TrainingLoop
{
    /// <summary>Runs until all steps are made or the token is cancelled; the parameters are then those of the last whole step.</summary>
    /// <exception cref="TrainingDivergedException">The loss or a gradient is not a finite number; the parameters are still those of the step before.</exception>
    public static TrainingSummary Run(TrainingSession session, IReadOnlyList<TrainingRow[]> sequences, IReadOnlyList<TrainingRow> validation,
        TrainingOptions options, Action<TrainingProgress>? progress, CancellationToken cancellation)
    {
        Stopwatch watch = Stopwatch.StartNew();
        int total = Schedule.TotalSteps(sequences.Count, options);
        int perEpoch = Schedule.StepsPerEpoch(sequences.Count, options);
        int batchesPerEpoch = (sequences.Count + options.BatchSize - 1) / options.BatchSize;
        List<TrainingProgress> steps = [];
        for (int epoch = 0; steps.Count < total; epoch++)
        {
            int seen = 0;
            foreach (TrainingRow[][] window in Order(sequences, options, epoch).Chunk((int)Math.Min(int.MaxValue, (long)options.BatchSize * options.GradientAccumulationSteps)))
            {
                TimeSpan begun = watch.Elapsed;
                Batch[] batches = [.. window.Chunk(options.BatchSize).Select(rows => Batch.Of(rows, session.Plan.Attention))];
                long labels = batches.Sum(batch => (long)batch.LabelIds.Length);
                double loss = 0;
                foreach (Batch batch in batches)
                {
                    if (cancellation.IsCancellationRequested)
                    {
                        return new TrainingSummary(steps, WasCancelled: true, watch.Elapsed);
                    }

                    loss += session.Accumulate(batch, labels);
                }

                int step = steps.Count;
                Check(step + 1, loss, session.Parameters);
                double rate = Schedule.LearningRate(step, total, options);
                float norm = session.Step(rate);
                seen += batches.Length;
                bool evaluate = validation.Count > 0 && (options.EvaluationSteps > 0 ? (step + 1) % options.EvaluationSteps == 0 || step + 1 == total : (step + 1) % perEpoch == 0 || step + 1 == total);
                long tokens = batches.Sum(batch => (long)batch.Tokens);
                double speed = tokens / (watch.Elapsed - begun).TotalSeconds;
                double? validationLoss = evaluate ? Evaluate(session, validation, options, cancellation) : null;
                TimeSpan remaining = watch.Elapsed / (step + 1) * (total - step - 1);
                steps.Add(new TrainingProgress(step + 1, total, epoch + ((double)seen / batchesPerEpoch), loss, norm, rate, labels, tokens, speed, watch.Elapsed, remaining, validationLoss));
                progress?.Invoke(steps[^1]);
                if (steps.Count == total)
                {
                    break;
                }
            }
        }

        return new TrainingSummary(steps, WasCancelled: false, watch.Elapsed);
    }

    /// <summary>How to cut the graphs for batches of these sequences: for an ordinary one, of half as many labels again as the average, and so that the largest still fits.</summary>
    public static ChunkPlan Plan(QwenConfig config, IReadOnlyList<TrainingRow[]> sequences, IReadOnlyList<TrainingRow> validation, TrainingOptions options, int maximumLossChunks = 64)
    {
        TrainingRow[][] all = [.. sequences, .. validation.Select(row => new[] { row })];
        int[] labels = [.. all.Select(rows => rows.Sum(row => row.LabelTokens)).OrderDescending()];
        int most = labels.Take(options.BatchSize).Sum();
        return ChunkPlan.For(config, all.Max(rows => rows.Sum(row => row.InputIds.Length)), Math.Min(most, (int)(1.5 * labels.Average() * options.BatchSize)), most, maximumLossChunks);
    }

    /// <summary>Mean loss over the label tokens of all rows, without dropout.</summary>
    /// <returns>The loss in nats; null when the token was cancelled on the way.</returns>
    public static double? Evaluate(TrainingSession session, IReadOnlyList<TrainingRow> rows, TrainingOptions options, CancellationToken cancellation)
    {
        (double sum, long labels) = (0, 0);
        foreach (TrainingRow[] chunk in rows.Chunk(options.BatchSize))
        {
            if (cancellation.IsCancellationRequested)
            {
                return null;
            }

            Batch batch = Batch.Of(chunk, session.Plan.Attention);
            sum += session.Evaluate(batch);
            labels += batch.LabelIds.Length;
        }

        return sum / Math.Max(1, labels);
    }

    internal static IEnumerable<TrainingRow[]> Order(IReadOnlyList<TrainingRow[]> sequences, TrainingOptions options, int epoch)
    {
        if (!options.Shuffle)
        {
            return sequences;
        }

        TrainingRow[][] order = [.. sequences];
        Random random = new(unchecked((options.SeedOrDefault * 31) + epoch));
        random.Shuffle(order);
        if (!options.GroupByLength)
        {
            return order;
        }

        // Sorted within groups of 50 windows, cut into batches, the batches shuffled: like lengths meet, and long rows still come at any time.
        int group = (int)Math.Min(int.MaxValue, 50L * options.BatchSize * options.GradientAccumulationSteps);
        TrainingRow[][][] batches = [.. order.Chunk(group).SelectMany(part => part.OrderByDescending(rows => rows.Sum(row => row.InputIds.Length)).Chunk(options.BatchSize))];
        TrainingRow[][]? rest = batches.FirstOrDefault(batch => batch.Length < options.BatchSize); // stays last: a short batch inside would shift all others
        TrainingRow[][][] whole = [.. batches.Where(batch => batch != rest)];
        random.Shuffle(whole);
        return whole.Append(rest ?? []).SelectMany(batch => batch);
    }

    private static void Check(int step, double loss, ParameterSet parameters)
    {
        if (!double.IsFinite(loss))
        {
            throw new TrainingDivergedException($"The loss of step {step} is {loss}: training has diverged. Lower LearningRate, or check the base checkpoint for values that are not finite.", step);
        }

        double squares = 0;
        for (long at = 0; at < parameters.Gradients.Length; at += 1 << 26)
        {
            squares += TensorPrimitives.SumOfSquares<float>(parameters.Gradients.Span(at, (int)Math.Min(1 << 26, parameters.Gradients.Length - at)));
        }

        if (!double.IsFinite(squares))
        {
            throw new TrainingDivergedException($"A gradient of step {step} is not a finite number: training has diverged. Lower LearningRate, or check the base checkpoint for values that are not finite.", step);
        }

        if (squares == 0 && loss > 1e-3)
        {
            throw new TrainingDivergedException(FormattableString.Invariant($"The gradient of step {step} is exactly zero at a loss of {loss:F3}: numbers inside have overflowed and training has diverged. Lower LearningRate."), step);
        }
    }
}
