using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>
/// What an engine takes of private memory before the first question, known before anything is allocated: a model that cannot fit is refused in words instead
/// of ended by the system's memory killer. Weights that are used as the file has them, such as the experts of a mixture, are not in it, nor is the cache, which
/// grows with use.
/// </summary>
internal static class EngineMemory
{
    /// <summary>Bytes of the weights that are not used as the file has them.</summary>
    /// <param name="checkpoint">The base.</param>
    /// <param name="quantized">Its weights in blocks; null where they are held as they are.</param>
    public static long Of(Checkpoint checkpoint, BlockWeights? quantized)
    {
        IEnumerable<string> names = checkpoint.Architecture.Linears(checkpoint.Config)
            .Select(module => module.Name + ".weight")
            .Concat(checkpoint.Architecture.Tensors(checkpoint.Config).Where(tensor => tensor.Kind == TensorKind.Router).Select(tensor => tensor.Name))
            .Append(checkpoint.Architecture.HeadName(checkpoint.Config))
            .Where(name => quantized?.Get(name) is null);
        long upcast = names
            .Select(name => checkpoint.Tensors[name].Entry)
            .Where(entry => entry.Type is TensorType.Float16 or TensorType.BFloat16)
            .Sum(entry => sizeof(float) * entry.Count);

        // ONNX Runtime lays packed weights out once more, and only then is their source given back.
        // One expert is copied and upcast at a time, whatever the precision.
        long expert = checkpoint.Config.Experts is { } experts
            ? 3L * (sizeof(float) + sizeof(short)) * checkpoint.Config.HiddenSize * experts.IntermediateSize
            : 0;
        return upcast + expert + (quantized is null ? 0 : (2 * quantized.Packed.Sum(tensor => tensor.Bytes)) + quantized.Scales.Sum(tensor => tensor.Bytes));
    }

    /// <summary>Bytes of the weights on a GPU: those in blocks, other matrices in 16 bits, vectors as the file has them.</summary>
    public static long OnGpu(Checkpoint checkpoint, BlockWeights? quantized) =>
        checkpoint.Architecture.Tensors(checkpoint.Config)
            .Where(spec => quantized?.Get(spec.Name) is null || spec.Kind == TensorKind.Embedding) // which is looked up in 16 bits, the output layer or not
            .Select(spec => checkpoint.Tensors.GetValueOrDefault(spec.Name))
            .OfType<CheckpointTensor>()
            .Sum(tensor => tensor.FourBit is not null ? tensor.Parts.Sum(part => part.Entry.Length)
                : tensor.Entry.Shape.Count == 2 ? sizeof(short) * tensor.Entry.Count
                : tensor.Entry.Length)
        + (quantized is null ? 0 : quantized.Packed.Concat(quantized.Scales).Sum(tensor => tensor.Bytes));

    /// <summary>Refuses an engine where the GPU has less memory than its weights take.</summary>
    /// <exception cref="OptionException">It has; the message has the figures, and says what would fit.</exception>
    public static void Require(CudaDevice device, Checkpoint checkpoint, WeightPrecision precision, BlockWeights? quantized)
    {
        long bytes = OnGpu(checkpoint, quantized);
        long available = Math.Min(MachineMemory.Of(device) ?? long.MaxValue, device.MemoryLimit ?? long.MaxValue);
        if (bytes <= available)
        {
            return;
        }

        string[] smaller = [.. new[] { WeightPrecision.Int8, WeightPrecision.Int4 }
            .Select(other => (Precision: other, Bytes: OnGpu(checkpoint, new BlockWeights(checkpoint, other, ElementType.BFloat16))))
            .Where(other => other.Bytes <= available)
            .Select(other => $"{other.Precision} ({MachineMemory.Gigabytes(other.Bytes)})")];
        string remedy = smaller.Length > 0
            ? $"Set {nameof(WeightPrecision)} to {string.Join(" or ", smaller)}."
            : $"Take a smaller model, or set the device to {Device.Cpu}.";
        string held = precision == WeightPrecision.Checkpoint ? "its weights" : $"its weights in {precision}";
        throw new OptionException($"{checkpoint.Folder} would take {MachineMemory.Gigabytes(bytes)} of {device} for {held}, and "
            + (available == device.MemoryLimit ? $"its {nameof(CudaDevice.MemoryLimit)} is " : "it has ") + $"{MachineMemory.Gigabytes(available)}. {remedy}");
    }

    /// <summary>Refuses an engine where the machine has less memory than that.</summary>
    /// <exception cref="OptionException">It has; the message has the figures, and says what would fit.</exception>
    public static void Require(Checkpoint checkpoint, WeightPrecision precision, BlockWeights? quantized)
    {
        long available = MachineMemory.Available;
        long bytes = Of(checkpoint, quantized);
        if (bytes <= available)
        {
            return;
        }

        string copies = precision == WeightPrecision.Checkpoint ? "float32 copies of its 16-bit weights" : $"its weights in {precision}";
        string[] smaller = [.. new[] { WeightPrecision.Int8, WeightPrecision.Int4 }
            .Select(other => (Precision: other, Bytes: Of(checkpoint, new BlockWeights(checkpoint, other))))
            .Where(other => other.Bytes <= available)
            .Select(other => $"{other.Precision} ({MachineMemory.Gigabytes(other.Bytes)})")];
        string remedy = smaller.Length > 0
            ? $"Set {nameof(WeightPrecision)} to {string.Join(" or ", smaller)}."
            : "Take a smaller model, or a machine with more.";
        throw new OptionException(
            $"{checkpoint.Folder} would take {MachineMemory.Gigabytes(bytes)} for {copies} and there are {MachineMemory.Gigabytes(available)} of memory. "
            + $"{remedy}");
    }
}
