using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>Weights that are quantized in blocks for generation on a device: quantized by the processor, one after another, and copied there.</summary>
internal static class DeviceBlocks
{
    private const int PieceBytes = 1 << 24;

    /// <summary>Reads, quantizes and copies.</summary>
    /// <param name="weights">What.</param>
    /// <param name="target">Receives them.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    /// <returns>What takes the place of the graph's initializers, by their names.</returns>
    /// <exception cref="CheckpointException">A file cannot be read, or a weight holds NaN or infinite numbers.</exception>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    public static IReadOnlyDictionary<string, NativeTensor> Fill(
        BlockWeights weights, DeviceTensors target, int threads, CancellationToken cancellation)
    {
        target.Reserve(weights.Packed.Concat(weights.Scales).Select(tensor => new DeviceTensor(tensor.Name, tensor.Bytes)));
        foreach (BlockQuantized weight in weights.All)
        {
            QuantizedTensor[] tensors = weight.ZeroPoints is { } zeroPoints ? [weight.Packed, weight.Scales, zeroPoints] : [weight.Packed, weight.Scales];
            using InitializerMemory memory = new(tensors, "a quantized weight");
            weights.Quantize([weight], memory.Of, threads, cancellation);
            foreach (QuantizedTensor tensor in tensors)
            {
                TensorMemory source = memory.Of(tensor.Name);
                for (long at = 0; at < tensor.Bytes; at += PieceBytes)
                {
                    target.Write(tensor.Name, at, source.Slice<byte>(at, (int)Math.Min(PieceBytes, tensor.Bytes - at)));
                }
            }
        }

        return weights.Packed.Concat(weights.Scales).ToDictionary(
            tensor => tensor.Name, tensor => target.View(tensor.Name, tensor.Type, 0, tensor.Shape, tensor.Bytes));
    }
}
