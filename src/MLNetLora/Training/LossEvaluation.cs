using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>Losses of rows under a base and its adapter, without anything for training: no gradients are computed and no optimizer is there.</summary>
internal static class LossEvaluation
{
    /// <summary>Sums over the rows.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">The adapter; may be empty.</param>
    /// <param name="rows">Tokenized rows.</param>
    /// <param name="options">Rows in a batch, precision of the weights, device and threads; the rest does not matter here.</param>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>, in the middle of a kernel too.</param>
    public static TokenSums Run(
        Checkpoint checkpoint, LoraAdapter adapter, IReadOnlyList<TrainingRow> rows, TrainingOptions options, CancellationToken cancellation)
    {
        options.Validate();
        RowChecks.Check(rows, checkpoint.Config.VocabSize, "evaluation");
        adapter.RequireFit(checkpoint);
        Checkpoint weights = FourBitCache.Open(checkpoint, options.Precision, options.Threads, cancellation);
        TrainingTarget target = new(checkpoint.Config, checkpoint.Architecture, weights, adapter.Parts.Modules, Dropout: 0)
        {
            Saved = adapter.Parts.Saved,
            Tokens = adapter.Parts.Tokens,
        };
        ChunkPlan plan = TrainingLoop.Plan(checkpoint.Config, [.. rows.Select(row => new[] { row })], [], options, target.MaximumLossChunks);
        using DeviceMemory? device = options.Device is CudaDevice cuda ? new DeviceMemory(cuda) : null;
        using DeviceWeights? onDevice = device is null ? null : new DeviceWeights(weights, device);
        using ParameterSet parameters = new(target.Trainables, device: device);
        LoraParameters.Load(parameters, adapter);
        Dictionary<string, NativeTensor> tensors = parameters.Tensors.ToDictionary(
            tensor => tensor.Name, tensor => parameters.View(parameters.Values, tensor.Name));
        using EvaluationSession session = new(target, options, plan, onDevice, device, cancellation);
        TokenSums sums = default;

        // Rows of like length go together, since less of such a batch is padding.
        foreach (TrainingRow[] batch in rows.OrderBy(row => row.InputIds.Length).Chunk(options.BatchSize))
        {
            cancellation.ThrowIfCancellationRequested();
            weights.RequireUnchanged();
            sums += session.Run(Batch.Of(batch, plan.Attention), new Dictionary<string, NativeTensor>(tensors), cancellation);
        }

        return sums;
    }
}
