using System.Numerics.Tensors;
using System.Runtime.ExceptionServices;
using MLNetLora.Artifacts;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>
/// Readies the frozen weights of a run as its precision asks. 4 bits come from the cache; for products in 8-bit integers it looks with some of the run's own
/// rows which inputs of the frozen layers are always large.
/// </summary>
internal static class Calibration
{
    // Those inputs are large for nearly every token, so a few hundred show them. No token sees a later one, so the beginning of a sequence is enough, and two
    // beginnings keep two threads at work.
    private const int Tokens = 512;
    private const int TokensOfOne = 256;

    /// <summary>The target as the training graph shall see it; unchanged with <see cref="WeightPrecision.Checkpoint"/>.</summary>
    /// <param name="target">An adapter on a frozen base.</param>
    /// <param name="options">The run's options.</param>
    /// <param name="plan">How its graphs are cut.</param>
    /// <param name="sequences">Its rows; of the first of them up to 256 tokens each are looked at, 512 in all.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public static TrainingTarget Prepare(
        TrainingTarget target,
        TrainingOptions options,
        ChunkPlan plan,
        IReadOnlyList<TrainingRow[]> sequences,
        CancellationToken cancellation = default)
    {
        if (target.Checkpoint is not { } checkpoint)
        {
            return target;
        }

        if (options.Precision != WeightPrecision.Int8)
        {
            return target with { Checkpoint = FourBitCache.Open(checkpoint, options.Precision, options.Threads, cancellation) };
        }

        // A thread for each sequence and not several for one: how a product is shared among threads decides its last digits, and those would decide how
        // weights are quantized. So the numbers are the same for every number of threads.
        ModelArtifact model = TrainingModel.Calibration(target, plan, out IReadOnlyDictionary<string, IReadOnlyList<string>> layers);
        using OnnxSession session = new(model, SessionUse.Training, threads: 1, cancellation: cancellation);
        string[] outputs = [.. layers.Keys];
        float[][] absmax = [.. outputs.Select(output => Array.Empty<float>())];
        List<Batch> batches = [];
        for (int i = 0; i < sequences.Count && batches.Sum(batch => (long)batch.Tokens) < Tokens; i++)
        {
            batches.Add(Batch.Of([Beginning(sequences[i])], plan.Attention));
        }

        ParallelOptions parallel = new()
        {
            MaxDegreeOfParallelism = options.Threads == 0 ? Environment.ProcessorCount : options.Threads,
            CancellationToken = cancellation,
        };
        try
        {
            if (parallel.MaxDegreeOfParallelism == 1)
            {
                batches.ForEach(Look); // on the caller's thread
            }
            else
            {
                Parallel.ForEach(batches, parallel, Look);
            }
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.Flatten().InnerExceptions[0]);
        }

        CalibratedLayers[] calibrated = [.. outputs.Select((output, i) => new CalibratedLayers(layers[output], absmax[i]))];
        return target with { Int8 = new Int8Weights(checkpoint, calibrated) };

        void Look(Batch batch)
        {
            using GraphInputs shared = new(target.Config, training: true);
            Dictionary<string, NativeTensor> inputs = [];
            List<NativeTensor> owned = [];
            try
            {
                shared.Add(batch, 1f, plan, inputs, owned);
                NativeTensor[] values = [.. session.InputNames.Select(name => inputs[name])];
                using NativeTensors results = session.Run(session.InputNames, values, outputs, cancellation);
                lock (absmax)
                {
                    for (int i = 0; i < outputs.Length; i++)
                    {
                        absmax[i] = Larger(results[i].Span<float>(), absmax[i]);
                    }
                }
            }
            finally
            {
                owned.ForEach(value => value.Dispose());
            }
        }
    }

    /// <summary>The first tokens of a sequence.</summary>
    private static TrainingRow[] Beginning(TrainingRow[] sequence)
    {
        List<TrainingRow> rows = [];
        int left = TokensOfOne;
        foreach (TrainingRow row in sequence.TakeWhile(_ => left > 0))
        {
            int length = Math.Min(left, row.InputIds.Length);
            rows.Add(new TrainingRow(row.InputIds[..length], row.Labels[..length]));
            left -= length;
        }

        return [.. rows];
    }

    private static float[] Larger(ReadOnlySpan<float> now, float[] before)
    {
        float[] larger = now.ToArray();
        if (before.Length > 0)
        {
            TensorPrimitives.Max(larger, before, larger);
        }

        return larger;
    }
}
