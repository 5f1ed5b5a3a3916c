using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>Short ways to make input tensors from arrays; the arrays are pinned, not copied.</summary>
internal static class Tensors
{
    /// <summary>Floats.</summary>
    public static NativeTensor Of(float[] data, params long[] shape) => NativeTensor.Over(data.AsMemory(), ElementType.Float32, shape);

    /// <summary>Part of an array of floats.</summary>
    public static NativeTensor Of(Memory<float> data, params long[] shape) => NativeTensor.Over(data, ElementType.Float32, shape);

    /// <summary>64-bit integers.</summary>
    public static NativeTensor Of(long[] data, params long[] shape) => NativeTensor.Over(data.AsMemory(), ElementType.Int64, shape);

    /// <summary>32-bit integers.</summary>
    public static NativeTensor Of(int[] data, params long[] shape) => NativeTensor.Over(data.AsMemory(), ElementType.Int32, shape);

    /// <summary>Unsigned bytes.</summary>
    public static NativeTensor Of(Memory<byte> data, params long[] shape) => NativeTensor.Over(data, ElementType.UInt8, shape);
}
