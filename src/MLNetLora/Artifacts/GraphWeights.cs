using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;

namespace MLNetLora.Artifacts;

/// <summary>
/// Gives a graph its weights by name: frozen ones as initializers that point into the checkpoint's own files, trainable ones as graph inputs.
/// Links are resolved first (a hub cache is made of links), since ONNX Runtime refuses files that lead out of the model's folder.
/// </summary>
internal sealed class GraphWeights
{
    private readonly GraphBuilder _graph;
    private readonly Dictionary<string, Weight> _weights = [];
    private readonly IReadOnlyDictionary<string, CheckpointTensor> _tensors;
    private readonly Dictionary<SafetensorsFile, string> _real;

    private readonly bool _widenOnce;

    /// <summary>Prepares the weights of a graph.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="checkpoint">Where frozen weights lie; null when there are none.</param>
    /// <param name="widenOnce">All uses of a 16-bit weight share one cast.</param>
    public GraphWeights(GraphBuilder graph, Checkpoint? checkpoint, bool widenOnce = false)
    {
        _widenOnce = widenOnce;
        _graph = graph;
        _tensors = checkpoint?.Tensors ?? new Dictionary<string, CheckpointTensor>();
        _real = (checkpoint?.Files ?? []).ToDictionary(file => file, file => RealPath.Of(file.Source));
        Folder = _real.Count == 0 ? null : CommonFolder(_real.Values);
    }

    /// <summary>The folder that all weight files lie under; null without a checkpoint.</summary>
    public string? Folder { get; }

    /// <summary>Puts a trainable tensor in the place of the checkpoint's.</summary>
    public void Set(string name, Weight weight) => _weights[name] = weight;

    /// <summary>The weight of a name; null where the model has none (a layer without bias).</summary>
    public Weight? Get(string name)
    {
        if (_weights.TryGetValue(name, out Weight? weight))
        {
            return weight;
        }

        if (!_tensors.TryGetValue(name, out CheckpointTensor? tensor))
        {
            return null;
        }

        return _weights[name] = new Weight(_graph.External(name, Type(tensor), tensor.Entry.Shape, Location(tensor), tensor.Entry.Offset, tensor.Entry.Length)) { IsWidenedOnce = _widenOnce };
    }

    /// <summary>The rows of a frozen weight [rows, columns] cut into parts, each an initializer of its own over the same file; fewer than asked for where the rows run out, null for one part or a weight that is trained.</summary>
    public IReadOnlyList<Weight>? Parts(string name, int parts)
    {
        if (parts == 1 || !_tensors.TryGetValue(name, out CheckpointTensor? tensor))
        {
            return null;
        }

        long rows = tensor.Entry.Shape[0];
        long size = (rows + parts - 1) / parts;
        long bytes = tensor.Entry.Length / rows; // of a row
        List<Weight> all = [];
        for (long first = 0; first < rows; first += size)
        {
            long count = Math.Min(size, rows - first);
            all.Add(new Weight(_graph.External($"{name}.rows.{first}", Type(tensor), [count, tensor.Entry.Shape[1]], Location(tensor), tensor.Entry.Offset + (first * bytes), count * bytes)) { IsWidenedOnce = _widenOnce });
        }

        return all;
    }

    /// <summary>Puts weights rounded for products of 8-bit integers in the place of the checkpoint's; the session is given the numbers, of those that the graph turns out to read (<see cref="Int8Weights"/>).</summary>
    public void Round(LayerInputs layers)
    {
        string[] names = [.. layers.Modules.Select(module => module + ".weight")];
        Value smoothing = Given(_tensors[names[0]], Int8Weights.SmoothingName(names[0]), ElementType.Float32, [layers.Largest.Length], sizeof(float));
        foreach (string name in names)
        {
            CheckpointTensor tensor = _tensors[name];
            (long outputs, long inputs) = (tensor.Entry.Shape[0], tensor.Entry.Shape[1]);
            (Value forward, Value forwardScales) = Parts(tensor, Int8Weights.ForwardName(name), inputs, outputs);
            (Value backward, Value backwardScales) = Parts(tensor, Int8Weights.BackwardName(name), outputs, inputs);
            _weights[name] = new Weight(forward) { Int8 = new Int8Weight(forward, forwardScales, smoothing, backward, backwardScales) };
        }

        (Value, Value) Parts(CheckpointTensor tensor, string part, long rows, long columns) =>
            (Given(tensor, part, ElementType.Int8, [rows, columns], 1), Given(tensor, Int8Weights.ScalesName(part), ElementType.Float32, [columns], sizeof(float)));
    }

    /// <summary>A weight rounded in blocks; the session is given the numbers.</summary>
    public Weight Rounded(RoundedWeight rounded)
    {
        string name = rounded.Tensor.Entry.Name;
        Value packed = Given(rounded.Tensor, RoundedWeights.PackedName(name), ElementType.UInt8, rounded.PackedShape, 1);
        Value scales = Given(rounded.Tensor, RoundedWeights.ScalesName(name), ElementType.Float32, rounded.ScalesShape, sizeof(float));
        Value? zeroPoints = rounded.Format.HasZeroPoints ? Given(rounded.Tensor, RoundedWeights.ZeroPointsName(name), ElementType.UInt8, rounded.ZeroPointsShape, 1) : null;
        return new Weight(packed) { Blocks = new WeightBlocks(scales, zeroPoints, rounded.Format.Bits, rounded.Format.Size, rounded.Inputs) };
    }

    // An initializer that the session is given values for. It points at the tensor that those were rounded from, only for ONNX Runtime to find a file.
    private Value Given(CheckpointTensor from, string name, ElementType type, long[] shape, int size) =>
        _graph.External(name, type, shape, Location(from), from.Entry.Offset, shape.Aggregate((long)size, (product, axis) => product * axis));

    private static ElementType Type(CheckpointTensor tensor) => tensor.Entry.Type switch { TensorType.Float16 => ElementType.Float16, TensorType.BFloat16 => ElementType.BFloat16, _ => ElementType.Float32 };

    private string Location(CheckpointTensor tensor) => Path.GetRelativePath(Folder!, _real[tensor.File]).Replace('\\', '/');

    private static string CommonFolder(IEnumerable<string> files)
    {
        string[] folders = [.. files.Select(file => Path.GetDirectoryName(file)!).Distinct()];
        string common = folders[0];
        while (!folders.All(folder => (folder + Path.DirectorySeparatorChar).StartsWith(common.TrimEnd(Path.DirectorySeparatorChar) + Path.DirectorySeparatorChar, StringComparison.Ordinal)))
        {
            common = Path.GetDirectoryName(common) ?? throw new CheckpointException($"The shards of the checkpoint lie on different drives ({string.Join(", ", folders)}); put them in one folder.");
        }

        return common;
    }
}
