using MLNetLora.Checkpoints;
using MLNetLora.Onnx;

namespace MLNetLora.Quantization;

/// <summary>A tensor that is made from the checkpoint's while a session loads: an initializer of the graph, for which the session is given memory.</summary>
/// <param name="Name">The initializer's name.</param>
/// <param name="Type">Type of its elements.</param>
/// <param name="Shape">Sizes of its axes.</param>
/// <param name="From">The weight that it is made from.</param>
internal sealed record QuantizedTensor(string Name, ElementType Type, long[] Shape, CheckpointTensor From)
{
    /// <summary>Size in bytes.</summary>
    public long Bytes => Shape.Aggregate(
        Type switch { ElementType.Float32 => sizeof(float), ElementType.BFloat16 or ElementType.Float16 => sizeof(short), _ => 1L },
        (product, size) => checked(product * size));
}
