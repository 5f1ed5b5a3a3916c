using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>A tensor to be placed on a device.</summary>
/// <param name="Name">What it is called there.</param>
/// <param name="Bytes">Its size.</param>
internal sealed record DeviceTensor(string Name, long Bytes);

/// <summary>Frozen tensors in the memory of a device: initializers that several sessions read. They stand in blocks of up to a gigabyte, so that hundreds of
/// small ones are a few allocations.</summary>
/// <param name="device">The device's memory.</param>
/// <param name="what">What they are, for the message of an error.</param>
internal sealed class DeviceTensors(DeviceMemory device, string what) : IDisposable
{
    private const long BlockBytes = 1L << 30;
    private const long Alignment = 256; // what CUDA's own allocations begin at multiples of

    private readonly List<NativeBuffer> _blocks = [];
    private readonly List<NativeTensor> _views = [];
    private readonly Dictionary<string, (NativeBuffer Block, long Offset)> _places = [];

    /// <summary>Whether there is room for a tensor.</summary>
    public bool Has(string name) => _places.ContainsKey(name);

    /// <summary>Makes room for tensors; what they hold is undefined.</summary>
    /// <exception cref="NativeMemoryException">The device has not that much memory.</exception>
    public void Reserve(IEnumerable<DeviceTensor> tensors)
    {
        List<(string Name, long Offset)> places = [];
        long size = 0;
        foreach (DeviceTensor tensor in tensors)
        {
            if (size > 0 && size + tensor.Bytes > BlockBytes)
            {
                Allocate();
            }

            places.Add((tensor.Name, size));
            size += (tensor.Bytes + Alignment - 1) / Alignment * Alignment;
        }

        if (size > 0)
        {
            Allocate();
        }

        void Allocate()
        {
            NativeBuffer block = New();
            _blocks.Add(block);
            places.ForEach(place => _places[place.Name] = (block, place.Offset));
            places.Clear();
            size = 0;
        }

        NativeBuffer New()
        {
            try
            {
                return new NativeBuffer(size, what, device, isCleared: false);
            }
            catch (NativeMemoryException e)
            {
                // Batches and rows take no part in it.
                throw new NativeMemoryException(FormattableString.Invariant($"The memory of {device.Device} ran out while {size / 1e9:F2} GB of it were taken ")
                    + $"for {what}. Another program may hold some of it (nvidia-smi shows which); else take weights in 8 or 4 bits, or a smaller model.", e);
            }
        }
    }

    /// <summary>Writes some bytes of a tensor. Several threads may, at different places.</summary>
    public void Write(string name, long byteOffset, ReadOnlySpan<byte> bytes)
    {
        (NativeBuffer block, long offset) = _places[name];
        block.Write(offset + byteOffset, bytes);
    }

    /// <summary>A tensor, or part of one, as sessions see it; disposed here.</summary>
    public NativeTensor View(string name, ElementType type, long byteOffset, IReadOnlyList<long> shape, long bytes)
    {
        (NativeBuffer block, long offset) = _places[name];
        NativeTensor view = block.View(type, offset + byteOffset, shape, bytes);
        _views.Add(view);
        return view;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _views.ForEach(view => view.Dispose());
        _blocks.ForEach(block => block.Dispose());
        _views.Clear();
        _blocks.Clear();
        _places.Clear();
    }
}
