using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>Finds what is not a number among weights and adapters.</summary>
internal static class BadNumbers
{
    /// <summary>The error for scores that are not numbers, for which all weights are read: it names the first tensor that holds NaN or infinity, in the
    /// order in which the model reads them.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="adapter">The adapter; null for none.</param>
    /// <param name="cancellation">Ends the search.</param>
    public static MLNetLoraException Explain(Checkpoint checkpoint, LoraAdapter? adapter, CancellationToken cancellation)
    {
        if (FirstBad(checkpoint, _ => true, cancellation) is { } tensor)
        {
            return FiniteNumbers.Error(tensor);
        }

        if (FirstBad(adapter) is { } bad)
        {
            return bad;
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

    /// <summary>The error for scores that are not numbers where the model computes in float16, which is the first thing to blame.</summary>
    public static CheckpointException InFloat16(Checkpoint checkpoint, Device device) => new(
        $"{checkpoint.Folder} gives scores that are not numbers on {device}, which has no bfloat16: numbers inside are beyond float16's 65,504. Set the device "
        + $"to {Device.Cpu}, or to a GPU of compute capability 8.0 or later.");

    /// <summary>Refuses a base that is quantized, and its adapter, for what is not quantized. Experts are left out, which may be larger than the
    /// memory.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="quantized">What is quantized, and looked at then.</param>
    /// <param name="adapter">The adapter; null for none.</param>
    /// <param name="cancellation">Ends the search.</param>
    /// <exception cref="CheckpointException">A tensor holds NaN or infinite numbers.</exception>
    /// <exception cref="AdapterException">One of the adapter's does.</exception>
    public static void RequireNone(Checkpoint checkpoint, BlockWeights quantized, LoraAdapter? adapter, CancellationToken cancellation)
    {
        if (FirstBad(checkpoint, spec => spec.Kind != TensorKind.Expert && quantized.Get(spec.Name) is null, cancellation) is { } tensor)
        {
            throw FiniteNumbers.Error(tensor);
        }

        RequireNone(adapter);
    }

    /// <summary>Refuses an adapter.</summary>
    /// <exception cref="AdapterException">One of its tensors holds NaN or infinite numbers.</exception>
    public static void RequireNone(LoraAdapter? adapter)
    {
        if (FirstBad(adapter) is { } bad)
        {
            throw bad;
        }
    }

    private static AdapterException? FirstBad(LoraAdapter? adapter) =>
        adapter?.Tensors.FirstOrDefault(tensor => !FiniteNumbers.Are(tensor.Values)).Tensor is { } bad
            ? new AdapterException($"The adapter cannot answer: its tensor {bad.Key} holds NaN or infinite numbers; its training diverged.")
            : null;

    private static CheckpointTensor? FirstBad(Checkpoint checkpoint, Func<TensorSpec, bool> isLookedAt, CancellationToken cancellation)
    {
        using TensorRows rows = new(checkpoint.Files);
        foreach (CheckpointTensor tensor in checkpoint.Architecture.Tensors(checkpoint.Config)
            .Where(isLookedAt)
            .Select(spec => checkpoint.Tensors.GetValueOrDefault(spec.Name))
            .OfType<CheckpointTensor>())
        {
            cancellation.ThrowIfCancellationRequested();
            if (!FiniteNumbers.Are(tensor, rows))
            {
                return tensor;
            }
        }

        return null;
    }
}
