using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Runtime;

/// <summary>Short ways to make input tensors from arrays; the arrays are pinned, not copied.</summary>
internal static class Tensors
{
    /// <summary>Floats.</summary>
    public static OrtValue Of(float[] data, params long[] shape) => OrtValue.CreateTensorValueFromMemory(data, shape);

    /// <summary>64-bit integers.</summary>
    public static OrtValue Of(long[] data, params long[] shape) => OrtValue.CreateTensorValueFromMemory(data, shape);

    /// <summary>32-bit integers.</summary>
    public static OrtValue Of(int[] data, params long[] shape) => OrtValue.CreateTensorValueFromMemory(data, shape);

    /// <summary>Truth values.</summary>
    public static OrtValue Of(Memory<bool> data, params long[] shape) => OrtValue.CreateTensorValueFromMemory(OrtMemoryInfo.DefaultInstance, data, shape);
}
