using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>A captured micro-batch: its graph's number, its inputs on the device, which are written before each run, and its loss.</summary>
internal sealed class CapturedRun : IDisposable
{
    private const int Alignment = 256; // what CUDA's own allocations begin at multiples of

    private readonly Dictionary<string, (NativeTensor Tensor, int Offset)> _inputs = [];
    private readonly byte[] _written; // all inputs, for one copy
    private readonly NativeBuffer _memory;
    private readonly FloatBuffer _loss;

    /// <summary>Makes room for inputs.</summary>
    /// <param name="graph">The graph's number.</param>
    /// <param name="inputs">Tensors in the process's memory of the types and shapes of the inputs.</param>
    /// <param name="device">The memory of the device.</param>
    public CapturedRun(int graph, IEnumerable<KeyValuePair<string, NativeTensor>> inputs, DeviceMemory device)
    {
        Graph = graph;
        List<(string Name, ElementType Type, long[] Shape, int Offset, int Bytes)> places = [];
        int size = 0;
        foreach ((string name, NativeTensor tensor) in inputs)
        {
            (ElementType type, long[] shape) = tensor.Kind();
            int bytes = tensor.Bytes().Length;
            places.Add((name, type, shape, size, bytes));
            size += (bytes + Alignment - 1) / Alignment * Alignment;
        }

        _written = new byte[size];
        _memory = new NativeBuffer(size, "a captured micro-batch", device);
        _loss = new FloatBuffer(1, "a captured micro-batch's loss", device);
        Loss = _loss.View(0, []);
        places.ForEach(place => _inputs[place.Name] = (_memory.View(place.Type, place.Offset, place.Shape, place.Bytes), place.Offset));
    }

    /// <summary>The number by which the runtime knows the graph.</summary>
    public int Graph { get; }

    /// <summary>Where the graph writes its loss.</summary>
    public NativeTensor Loss { get; }

    /// <summary>Writes the inputs of a micro-batch.</summary>
    public void Write(Dictionary<string, NativeTensor> inputs)
    {
        foreach ((string name, (_, int offset)) in _inputs)
        {
            inputs[name].Bytes().CopyTo(_written.AsSpan(offset));
        }

        _memory.Write<byte>(0, _written);
    }

    /// <summary>The inputs of a run, in the order of a micro-batch's: those here in the place of those in the process's memory.</summary>
    public NativeTensor[] Inputs(Dictionary<string, NativeTensor> inputs) =>
        [.. inputs.Select(input => _inputs.TryGetValue(input.Key, out (NativeTensor Tensor, int Offset) here) ? here.Tensor : input.Value)];

    /// <summary>Copies the loss to where losses are.</summary>
    public void CopyLoss(LossSlot slot) => _loss.CopyTo(0, slot.Losses, slot.Index, 1);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((NativeTensor tensor, _) in _inputs.Values)
        {
            tensor.Dispose();
        }

        _memory.Dispose();
        _loss.Dispose();
    }
}
