using System.Numerics.Tensors;
using MLNetLora.Artifacts;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Readies a run for products in 8-bit integers: looks with some of its own rows which inputs of the frozen layers are always large.</summary>
internal static class Calibration
{
    private const int Tokens = 512; // those inputs are large for nearly every token, so a few hundred show them

    /// <summary>The target as the training graph shall see it; unchanged with <see cref="WeightPrecision.Checkpoint"/>.</summary>
    /// <param name="target">An adapter on a frozen base.</param>
    /// <param name="options">The run's options.</param>
    /// <param name="plan">How its graphs are cut.</param>
    /// <param name="sequences">Its rows; the first of them, up to 512 tokens but at least one sequence, are looked at.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public static TrainingTarget Prepare(TrainingTarget target, TrainingOptions options, ChunkPlan plan, IReadOnlyList<TrainingRow[]> sequences,
        CancellationToken cancellation = default)
    {
        if (options.Precision == WeightPrecision.Checkpoint || target.Checkpoint is not { } checkpoint)
        {
            return target;
        }

        ModelArtifact model = TrainingModel.Calibration(target, plan, out IReadOnlyDictionary<string, IReadOnlyList<string>> layers);
        using OnnxSession session = new(model, SessionUse.Training, options.Threads, cancellation: cancellation);
        using GraphInputs shared = new(target.Config);
        Dictionary<string, float[]> absmax = [];
        int tokens = 0;
        foreach (TrainingRow[] sequence in sequences.TakeWhile(_ => tokens < Tokens))
        {
            Batch batch = Batch.Of([sequence], plan.Attention);
            tokens += batch.Tokens;
            Dictionary<string, NativeTensor> inputs = [];
            List<NativeTensor> owned = [];
            try
            {
                shared.Add(batch, 1f, 1, inputs, owned);
                string[] outputs = [.. layers.Keys];
                using NativeTensors results = session.Run(session.InputNames, [.. session.InputNames.Select(name => inputs[name])], outputs, cancellation);
                for (int i = 0; i < outputs.Length; i++)
                {
                    float[] now = results[i].Span<float>().ToArray();
                    if (absmax.TryGetValue(outputs[i], out float[]? before))
                    {
                        TensorPrimitives.Max(now, before, now);
                    }

                    absmax[outputs[i]] = now;
                }
            }
            finally
            {
                owned.ForEach(value => value.Dispose());
            }
        }

        return target with { Int8 = new Int8Weights(checkpoint, [.. layers.Select(pair => new CalibratedLayers(pair.Value, absmax[pair.Key]))]) };
    }
}
