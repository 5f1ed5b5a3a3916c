using MLNetLora.Quantization;

namespace MLNetLora.Runtime;

/// <summary>
/// Native memory for the initializers that a session is given values for. It is one block, which the system gets back as soon as it is freed; many of
/// a few megabytes each might stay with the allocator.
/// </summary>
internal sealed class InitializerMemory : IDisposable
{
    private const long Alignment = 64; // a cache line, and the widest vector

    private readonly NativeBuffer _memory;
    private readonly Dictionary<string, (long Offset, long Bytes)> _places = [];
    private readonly Dictionary<string, NativeTensor> _tensors = [];

    /// <summary>Allocates zeros.</summary>
    /// <param name="tensors">The initializers.</param>
    /// <param name="what">What the memory is for, for the message of an error.</param>
    /// <exception cref="NativeMemoryException">There is not that much memory.</exception>
    public InitializerMemory(IEnumerable<QuantizedTensor> tensors, string what)
    {
        QuantizedTensor[] all = [.. tensors];
        long size = 0;
        foreach (QuantizedTensor tensor in all)
        {
            _places[tensor.Name] = (size, tensor.Bytes);
            size = checked(size + ((tensor.Bytes + Alignment - 1) / Alignment * Alignment));
        }

        _memory = new NativeBuffer(size, what);
        try
        {
            foreach (QuantizedTensor tensor in all)
            {
                _tensors[tensor.Name] = _memory.View(tensor.Type, _places[tensor.Name].Offset, tensor.Shape, tensor.Bytes);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What takes the place of the graph's initializers, by their names.</summary>
    public IReadOnlyDictionary<string, NativeTensor> Tensors => _tensors;

    /// <summary>Where an initializer is written; empty for one that is not here. Only while this object lives.</summary>
    public unsafe TensorMemory Of(string name) =>
        _places.TryGetValue(name, out (long Offset, long Bytes) place) ? new TensorMemory((nint)(_memory.Data + place.Offset), place.Bytes) : default;

    /// <summary>Sets everything to zero.</summary>
    public void Clear() => _memory.Clear();

    /// <inheritdoc cref="NativeBuffer.Discard"/>
    public void Discard() => _memory.Discard();

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (NativeTensor tensor in _tensors.Values)
        {
            tensor.Dispose();
        }

        _tensors.Clear();
        _memory.Dispose();
    }
}
