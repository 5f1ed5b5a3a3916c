using System.Buffers;
using System.Collections;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>
/// A tensor as ONNX Runtime knows it, with the memory that it stands on: a buffer, which it keeps, or an array, which it pins. A run holds its
/// tensors, so one that is disposed meanwhile goes when the run ends; one that is dropped without Dispose is freed by the finalizer.
/// </summary>
internal sealed class NativeTensor : NativeHandle
{
    private static long s_live;

    private readonly OrtValue _value;
    private readonly nint _address; // 0 where the runtime has made it
    private readonly NativeBuffer? _buffer;
    private MemoryHandle _pin;

    private NativeTensor(OrtValue value, nint address, NativeBuffer? buffer, MemoryHandle pin)
    {
        _value = value;
        _address = address;
        _buffer = buffer;
        _pin = pin;
        SetHandle(1); // the OrtValue holds the real one
        Interlocked.Increment(ref s_live);
    }

    /// <summary>Number of tensors in this process that are not freed yet.</summary>
    public static long Live => Interlocked.Read(ref s_live);

    /// <summary>Whether its numbers are on a device.</summary>
    public bool IsOnDevice => _buffer?.IsOnDevice ?? false;

    /// <summary>Where the numbers begin, on the device or in the process; 0 where the runtime has made them.</summary>
    internal nint Address => _address;

    /// <summary>What the runtime takes.</summary>
    internal OrtValue Value
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsDisposed, this);
            return _value;
        }
    }

    /// <summary>The same for a user that holds the tensor, which may be disposed meanwhile.</summary>
    internal OrtValue Held => _value;

    /// <summary>A tensor over numbers of a buffer.</summary>
    /// <param name="buffer">What owns them.</param>
    /// <param name="type">Type of the elements.</param>
    /// <param name="address">Where they begin.</param>
    /// <param name="shape">Shape.</param>
    /// <param name="bytes">Size in bytes.</param>
    public static NativeTensor Over(NativeBuffer buffer, ElementType type, nint address, long[] shape, long bytes)
    {
        buffer.Hold(); // until ReleaseHandle
        try
        {
            OrtValue value = NativeCalls.Do("tensor", Advice.None,
                () => OrtValue.CreateTensorValueWithData(buffer.Memory, TypeOf(type), shape, address, bytes));
            return new NativeTensor(value, address, buffer, default);
        }
        catch
        {
            buffer.DangerousRelease();
            throw;
        }
    }

    /// <summary>A tensor over an array, which is pinned, not copied.</summary>
    internal static unsafe NativeTensor Over<T>(Memory<T> data, ElementType type, long[] shape)
        where T : unmanaged
    {
        long count = shape.Aggregate(1L, (product, size) => checked(product * size));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, data.Length);
        MemoryHandle pin = data.Pin();
        try
        {
            nint address = (nint)pin.Pointer;
            return new NativeTensor(NativeCalls.Do("tensor", Advice.None,
                () => OrtValue.CreateTensorValueWithData(OrtMemoryInfo.DefaultInstance, TypeOf(type), shape, address, count * sizeof(T))), address, null, pin);
        }
        catch
        {
            pin.Dispose();
            throw;
        }
    }

    /// <summary>An output that the runtime made.</summary>
    internal static NativeTensor Of(OrtValue value) => new(value, 0, null, default);

    /// <summary>The numbers.</summary>
    public ReadOnlySpan<T> Span<T>()
        where T : unmanaged => Value.GetTensorDataAsSpan<T>();

    /// <summary>The bytes of numbers in the process's memory.</summary>
    internal unsafe ReadOnlySpan<byte> Bytes() => new((void*)_address, checked((int)Value.GetTensorSizeInBytes()));

    /// <summary>Type and shape.</summary>
    internal (ElementType Type, long[] Shape) Kind()
    {
        OrtTensorTypeAndShapeInfo info = Value.GetTensorTypeAndShape();
        return ((ElementType)(int)info.ElementDataType, info.Shape);
    }

    /// <summary>A tensor of this one's type and shape, of zeros of its own, for as long as a run. Both are in the process's memory and held.</summary>
    internal NativeTensor Twin()
    {
        OrtTensorTypeAndShapeInfo info = _value.GetTensorTypeAndShape();
        long bytes = _value.GetTensorSizeInBytes();
        using NativeBuffer buffer = new(bytes, "results of a run", isOfOneCall: true);
        return buffer.View((ElementType)(int)info.ElementDataType, 0, info.Shape, bytes);
    }

    /// <summary>Copies the numbers to a tensor of the same size; both are in the process's memory and held.</summary>
    internal unsafe void CopyTo(NativeTensor other)
    {
        long bytes = _value.GetTensorSizeInBytes();
        Buffer.MemoryCopy((void*)_address, (void*)other._address, bytes, bytes);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        _value.Dispose();
        _pin.Dispose();
        _buffer?.DangerousRelease();
        Interlocked.Decrement(ref s_live);
        return true;
    }

    private static TensorElementType TypeOf(ElementType type) => (TensorElementType)(int)type; // both count as ONNX does
}

/// <summary>Outputs that a run made, in the order in which they were asked for.</summary>
internal sealed class NativeTensors : IReadOnlyList<NativeTensor>, IDisposable
{
    private readonly NativeTensor[] _tensors;

    /// <summary>Takes the outputs of a run over.</summary>
    internal NativeTensors(IEnumerable<OrtValue> values)
        : this(values.Select(NativeTensor.Of))
    {
    }

    /// <summary>Takes tensors over.</summary>
    internal NativeTensors(IEnumerable<NativeTensor> tensors) => _tensors = [.. tensors];

    /// <inheritdoc/>
    public int Count => _tensors.Length;

    /// <inheritdoc/>
    public NativeTensor this[int index] => _tensors[index];

    /// <inheritdoc/>
    public IEnumerator<NativeTensor> GetEnumerator() => ((IEnumerable<NativeTensor>)_tensors).GetEnumerator();

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <inheritdoc/>
    public void Dispose() => Array.ForEach(_tensors, tensor => tensor.Dispose());
}
