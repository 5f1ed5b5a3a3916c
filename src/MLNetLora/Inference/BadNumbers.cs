using System.Numerics.Tensors;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Inference;

/// <summary>Says where scores that are not numbers come from. Only asked when there are some: it reads all weights.</summary>
internal static class BadNumbers
{
    private const int RowsAtOnce = 256;

    /// <summary>The error, which names the first tensor that holds NaN or infinity, in the order in which the model reads them.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">The adapter; null for none.</param>
    /// <param name="cancellation">Ends the search.</param>
    public static MLNetLoraException Explain(Checkpoint checkpoint, LoraAdapter? adapter, CancellationToken cancellation)
    {
        if (FirstBad(checkpoint, cancellation) is { } tensor)
        {
            return new CheckpointException($"{checkpoint.Folder} cannot answer: its tensor {tensor.Entry.Name} in {tensor.File.Source} holds NaN or infinite "
                + "numbers. Download or write the file again.");
        }

        if (adapter?.Tensors.FirstOrDefault(tensor => !IsFinite(tensor.Values)).Tensor is { } bad)
        {
            return new AdapterException($"The adapter cannot answer: its tensor {bad.Key} holds NaN or infinite numbers; its training diverged.");
        }

        if (adapter is { IsEmpty: false })
        {
            LoraFactors? largest = adapter.Factors.MaxBy(factors => Math.Abs(factors.Module.Scaling));
            string scaling = largest is null ? ""
                : FormattableString.Invariant($"Its scaling is up to {largest.Module.Scaling:G4} ({largest.Module.Module.Name}). ");
            return new AdapterException(
                $"The adapter on {checkpoint.Folder} gives scores that are not numbers, though all its tensors and the base's weights are: products overflow. "
                + $"{scaling}Try the base without it.");
        }

        return new CheckpointException(
            $"{checkpoint.Folder} gives scores that are not numbers, though all its weights are: they are so large that the products overflow. "
            + "Compare the files with their source, or try another checkpoint.");
    }

    private static CheckpointTensor? FirstBad(Checkpoint checkpoint, CancellationToken cancellation)
    {
        using TensorRows rows = new(checkpoint.Files);
        foreach (CheckpointTensor tensor in checkpoint.Architecture.Tensors(checkpoint.Config)
            .Select(spec => checkpoint.Tensors.GetValueOrDefault(spec.Name))
            .OfType<CheckpointTensor>())
        {
            cancellation.ThrowIfCancellationRequested();
            if (!IsFinite(tensor, rows))
            {
                return tensor;
            }
        }

        return null;
    }

    private static bool IsFinite(CheckpointTensor tensor, TensorRows rows)
    {
        if (tensor.Entry.Shape.Count != 2)
        {
            return IsFinite(tensor.ReadFloat32());
        }

        (long count, int columns) = (tensor.Entry.Shape[0], (int)tensor.Entry.Shape[1]);
        float[] values = new float[RowsAtOnce * columns];
        for (long first = 0; first < count; first += RowsAtOnce)
        {
            Span<float> part = values.AsSpan(0, (int)Math.Min(RowsAtOnce, count - first) * columns);
            rows.Read(tensor, first, part);
            if (!IsFinite(part))
            {
                return false;
            }
        }

        return true;
    }

    private static bool IsFinite(ReadOnlySpan<float> values) => values.IsEmpty || float.IsFinite(TensorPrimitives.MaxMagnitude(values)); // NaN wins
}
