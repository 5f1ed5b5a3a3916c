using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>Floats outside the managed heap that ONNX Runtime reads and writes in place, whole or in slices.</summary>
internal sealed class FloatBuffer : IDisposable
{
    private readonly NativeBuffer _memory;
    private readonly List<NativeTensor> _views = [];

    /// <summary>Allocates zeros; memory is taken where they are first written.</summary>
    /// <param name="length">Number of floats.</param>
    /// <param name="what">What they are for, for the message of an error.</param>
    /// <param name="device">The memory of a device; null for the process's.</param>
    /// <exception cref="NativeMemoryException">There is not that much memory.</exception>
    public FloatBuffer(long length, string what = "numbers", DeviceMemory? device = null)
    {
        Length = length;
        _memory = new NativeBuffer(checked(length * sizeof(float)), what, device);
    }

    /// <summary>Number of floats.</summary>
    public long Length { get; }

    /// <inheritdoc cref="NativeBuffer.IsOnDevice"/>
    public bool IsOnDevice => _memory.IsOnDevice;

    /// <summary>Copies floats out.</summary>
    public void Read(long offset, Span<float> numbers) => _memory.Read(offset * sizeof(float), numbers);

    /// <summary>Copies floats in.</summary>
    public void Write(long offset, ReadOnlySpan<float> numbers) => _memory.Write(offset * sizeof(float), numbers);

    /// <summary>Copies floats to another buffer in the same kind of memory.</summary>
    public void CopyTo(long offset, FloatBuffer target, long targetOffset, long count) =>
        _memory.CopyTo(offset * sizeof(float), target._memory, targetOffset * sizeof(float), count * sizeof(float));

    /// <summary>The floats from an offset on; not on a device.</summary>
    public Span<float> Span(long offset, int count) => _memory.Span<float>(offset * sizeof(float), count);

    /// <summary>A tensor over part of the buffer; the buffer disposes it, and its memory lives at least as long as the tensor.</summary>
    public NativeTensor View(long offset, IReadOnlyList<long> shape)
    {
        long count = shape.Aggregate(1L, (product, size) => checked(product * size));
        NativeTensor view = _memory.View(ElementType.Float32, offset * sizeof(float), shape, count * sizeof(float));
        _views.Add(view);
        return view;
    }

    /// <summary>Sets everything to zero.</summary>
    public void Clear() => _memory.Clear();

    /// <inheritdoc/>
    public void Dispose()
    {
        _views.ForEach(view => view.Dispose());
        _views.Clear();
        _memory.Dispose();
    }
}
