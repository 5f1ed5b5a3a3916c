using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Runtime;

/// <summary>Floats outside the managed heap that ONNX Runtime reads and writes in place, whole or in slices.</summary>
internal sealed unsafe class FloatBuffer : IDisposable
{
    private readonly List<OrtValue> _views = [];
    private float* _data;

    /// <summary>Allocates zeros.</summary>
    public FloatBuffer(long length)
    {
        Length = length;
        _data = (float*)NativeMemory.AlignedAlloc((nuint)Math.Max(64, length * sizeof(float)), 64);
        Clear();
    }

    /// <summary>Number of floats.</summary>
    public long Length { get; }

    /// <summary>The floats from an offset on.</summary>
    public Span<float> Span(long offset, int count)
    {
        ObjectDisposedException.ThrowIf(_data is null, this);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset + count, Length);
        return new Span<float>(_data + offset, count);
    }

    /// <summary>A tensor over part of the buffer; it lives as long as the buffer.</summary>
    public OrtValue View(long offset, IReadOnlyList<long> shape)
    {
        ObjectDisposedException.ThrowIf(_data is null, this);
        long count = shape.Aggregate(1L, (product, size) => product * size);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset + count, Length);
        OrtValue view = OrtValue.CreateTensorValueWithData(OrtMemoryInfo.DefaultInstance, Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Float, [.. shape], (nint)(_data + offset), count * sizeof(float));
        _views.Add(view);
        return view;
    }

    /// <summary>Sets everything to zero.</summary>
    public void Clear()
    {
        for (long at = 0; at < Length; at += int.MaxValue)
        {
            Span(at, (int)Math.Min(int.MaxValue, Length - at)).Clear();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _views.ForEach(view => view.Dispose());
        _views.Clear();
        NativeMemory.AlignedFree(_data);
        _data = null;
    }
}
