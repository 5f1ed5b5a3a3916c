using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Quantization;

namespace MLNetLora.Artifacts;

/// <summary>
/// Gives a graph its weights by name: frozen ones as initializers that point into the checkpoint's own files, trainable ones as graph inputs.
/// Links are resolved first (a hub cache is made of links), since ONNX Runtime refuses files that lead out of the model's folder.
/// </summary>
internal sealed class GraphWeights
{
    private readonly GraphBuilder _graph;
    private readonly Dictionary<string, Weight> _weights = [];
    private readonly Dictionary<string, ExpertWeight> _experts = [];
    private readonly Dictionary<string, IReadOnlyList<CheckpointTensor>> _stacks = [];
    private readonly HashSet<string> _replaced = [];
    private readonly IReadOnlyDictionary<string, CheckpointTensor> _tensors;
    private readonly Dictionary<SafetensorsFile, string> _real;

    private readonly bool _upcastOnce;

    /// <summary>Prepares the weights of a graph.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="checkpoint">Where frozen weights lie; null when there are none.</param>
    /// <param name="upcastOnce">All uses of a 16-bit weight share one cast.</param>
    public GraphWeights(GraphBuilder graph, Checkpoint? checkpoint, bool upcastOnce = false)
    {
        _upcastOnce = upcastOnce;
        _graph = graph;
        _tensors = checkpoint?.Tensors ?? new Dictionary<string, CheckpointTensor>();
        _real = (checkpoint?.Files ?? []).ToDictionary(file => file, file => RealPath.Of(file.Source));
        Folder = _real.Count == 0 ? null : CommonFolder(_real.Values);
    }

    /// <summary>The folder that all weight files lie under; null without a checkpoint.</summary>
    public string? Folder { get; }

    /// <summary>Initializers that are several tensors one after another, by their names.</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<CheckpointTensor>> Stacks => _stacks;

    /// <summary>Multiplies with the checkpoint's weights in a graph that is mostly run with one row; null in others.</summary>
    public RowStreams? Streams { get; init; }

    /// <summary>Puts a trainable tensor in the place of the checkpoint's.</summary>
    public void Set(string name, Weight weight)
    {
        _weights[name] = weight;
        _replaced.Add(name);
    }

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

        return _weights[name] = InFile(tensor);
    }

    /// <summary>A weight as it lies in its file.</summary>
    private Weight InFile(CheckpointTensor tensor) => tensor.FourBit is { } storage ? FourBit(tensor, storage) : External(tensor);

    private FloatWeight External(CheckpointTensor tensor) => Stored(_graph.External(
        tensor.Entry.Name, Type(tensor), tensor.Entry.Shape, Location(tensor), tensor.Entry.Offset, tensor.Entry.Count * Size(Type(tensor))));

    /// <summary>The rows of a frozen weight [rows, columns] cut into parts, each an initializer of its own over the same file; fewer than asked for
    /// where the rows run out, null for one part or a weight that is trained.</summary>
    public IReadOnlyList<Weight>? Parts(string name, int parts)
    {
        if (parts == 1 || _replaced.Contains(name) || !_tensors.TryGetValue(name, out CheckpointTensor? tensor) || tensor.FourBit is not null)
        {
            return null;
        }

        long rows = tensor.Entry.Shape[0];
        long size = (rows + parts - 1) / parts;
        long bytes = tensor.Entry.Length / rows; // of a row in the file
        long used = tensor.Entry.Shape[1] * Size(Type(tensor)); // of a row in the graph
        List<Weight> all = [];
        for (long first = 0; first < rows; first += size)
        {
            long count = Math.Min(size, rows - first);
            long offset = tensor.Entry.Offset + (first * bytes);
            all.Add(Stored(_graph.External($"{name}.rows.{first}", Type(tensor), [count, tensor.Entry.Shape[1]], Location(tensor), offset, count * used)));
        }

        return all;
    }

    /// <summary>One matrix of each of a layer's experts. Each file that holds some is mapped from the first of them to the end of the last, whatever lies
    /// between.</summary>
    /// <param name="names">The tensors, by the experts' numbers.</param>
    /// <exception cref="CheckpointException">They lie where elements of their type cannot be counted from one to the other.</exception>
    public ExpertWeight Experts(IReadOnlyList<string> names)
    {
        if (_experts.TryGetValue(names[0], out ExpertWeight? known))
        {
            return known;
        }

        CheckpointTensor[] tensors = [.. names.Select(name => _tensors[name])];
        if (IsOnDevice)
        {
            return _experts[names[0]] = Stacked(tensors);
        }

        List<ExpertRegion> regions = [];
        foreach (IGrouping<(SafetensorsFile, TensorType), CheckpointTensor> part in tensors.GroupBy(tensor => (tensor.File, tensor.Entry.Type)))
        {
            long first = part.Min(tensor => tensor.Entry.Offset);
            long end = part.Max(tensor => tensor.Entry.Offset + tensor.Entry.Length);
            long size = part.First().Entry.Length / part.First().Entry.Count;
            if (part.FirstOrDefault(tensor => (tensor.Entry.Offset - first) % size != 0) is { } odd)
            {
                throw new CheckpointException($"{odd.File.Source}: '{odd.Entry.Name}' does not begin at a multiple of {size} bytes after the other experts of "
                    + "its layer. Save the checkpoint again with safetensors, which places tensors so.");
            }

            // Each matrix is some pieces of one size, counted from the first: rows, or what rows and the places of the matrices have in common.
            long piece = part.Aggregate(part.First().Entry.Shape[1], (common, tensor) => CommonDivisor(common, (tensor.Entry.Offset - first) / size));
            HashSet<CheckpointTensor> here = [.. part];
            long count = (end - first) / size;
            Value pieces = _graph.External(
                $"{names[0]}.all.{regions.Count}", TypeInFile(part.First()), [count / piece, piece], Location(part.First()), first, count * size);
            regions.Add(new ExpertRegion(pieces, [.. tensors.Select(tensor => here.Contains(tensor) ? (tensor.Entry.Offset - first) / size / piece : -1)]));
        }

        return _experts[names[0]] = new ExpertRegions(names[0], regions, tensors[0].Entry.Shape[0], tensors[0].Entry.Shape[1]);
    }

    /// <summary>Matrices of experts side by side, as <see cref="Runtime.DeviceWeights"/> places them on a device.</summary>
    private ExpertStack Stacked(CheckpointTensor[] tensors)
    {
        CheckpointTensor first = tensors[0];
        ElementType type = tensors.All(tensor => Type(tensor) == Type(first)) ? Type(first) : ElementType.Float32;
        long[] shape = [tensors.Length, .. first.Entry.Shape];
        string name = first.Entry.Name + ".stack";
        _stacks[name] = tensors;
        return new ExpertStack(_graph.External(name, type, shape, Location(first), first.Entry.Offset, tensors.Length * first.Entry.Count * Size(type)));
    }

    /// <summary>Puts weights quantized for products of 8-bit integers in the place of the checkpoint's; the session is given the numbers of those
    /// that the graph turns out to read.</summary>
    public void Quantize(Int8Weights weights)
    {
        foreach (Int8Group group in weights.Groups)
        {
            Value inverseSmoothing = Given(group.InverseSmoothing);
            foreach (Int8Quantized layer in group.Layers)
            {
                (Value forward, Value forwardScales) = (Given(layer.Forward), Given(layer.ForwardScales));
                (Value backward, Value backwardScales) = (Given(layer.Backward), Given(layer.BackwardScales));
                _weights[layer.Source.Entry.Name] = new Int8Weight(forward, forwardScales, inverseSmoothing, backward, backwardScales)
                {
                    Original = () => InFile(layer.Source),
                };
            }
        }
    }

    /// <summary>A weight quantized in blocks; the session is given the numbers.</summary>
    public Weight Quantized(BlockQuantized weight)
    {
        (Value packed, Value scales) = (Given(weight.Packed), Given(weight.Scales));
        Value? zeroPoints = weight.ZeroPoints is { } given ? Given(given) : null;
        return new BlockWeight(packed, scales, zeroPoints, weight.Format.Bits, weight.Format.Size, weight.Inputs);
    }

    private CodebookWeight FourBit(CheckpointTensor tensor, FourBitStorage storage)
    {
        (string name, long bytes) = (tensor.Entry.Name, tensor.Entry.Length);
        Value codes = _graph.External(name, ElementType.UInt8, [bytes], Location(tensor), tensor.Entry.Offset, bytes);
        Value pairs = _graph.External(name + ".pairs", ElementType.UInt16, [bytes / 2], Location(tensor), tensor.Entry.Offset, bytes);
        Codebook levels = new($"{storage.Type}", FourBitCode.Levels(storage.Type).ToArray(), storage.Type == FourBitType.Nf4);
        Value absmax = External(storage.AbsMax); // [blocks]
        Value? nested = storage.Nested is { } n ? External(n.AbsMax) : null; // [nested blocks]
        return new CodebookWeight(codes, pairs, levels, storage.BlockSize, AbsMax, tensor.Entry.Shape[0], tensor.Entry.Shape[1]);

        Value External(CheckpointTensor part) =>
            _graph.External(part.Entry.Name, TypeInFile(part), part.Entry.Shape, Location(part), part.Entry.Offset, part.Entry.Length);

        // [blocks]
        Value AbsMax(GraphBuilder g)
        {
            if (storage.Nested is not { } double4)
            {
                return absmax;
            }

            (long blocks, long groups, long size) = (storage.AbsMax.Entry.Count, double4.AbsMax.Entry.Count, double4.BlockSize);
            Value map = g.Table($"{name}.map", double4.Map, 1); // [256, 1]
            Value values = g.Reshape(g.Gather(map, g.Cast(absmax, ElementType.Int32)), [-1], [blocks]);
            Value scales = g.Expand(g.Reshape(nested!, [groups, 1], [groups, 1]), g.Int64s(groups, size), [groups, size]);
            scales = g.Slice(g.Reshape(scales, [-1], [groups * size]), g.Int64s(0), g.Int64s(blocks), 0, blocks); // the last group may be short
            return g.Add(g.Mul(values, scales), g.Float(double4.Offset));
        }
    }

    private FloatWeight Stored(Value source) => source.Type == ElementType.Float32
        ? new FloatWeight(source) { Streams = Streams }
        : new HalfWeight(source, _upcastOnce) { Streams = Streams };

    private bool IsOnDevice => _graph.ForCuda && !_graph.SimulatesComputeType;

    // An initializer that the session is given values for. It points at the tensor that those are made from, only for ONNX Runtime to find a file.
    private Value Given(QuantizedTensor tensor) =>
        _graph.External(tensor.Name, tensor.Type, tensor.Shape, Location(tensor.From), tensor.From.Entry.Offset, tensor.Bytes);

    /// <summary>The type that the graph reads a tensor in: the file's, but for matrices on a device, which holds them in the type that is computed in
    /// (<see cref="Runtime.DeviceWeights"/>).</summary>
    private ElementType Type(CheckpointTensor tensor)
    {
        bool isRounded = IsOnDevice && _graph.ComputeType != ElementType.Float32;
        return isRounded && tensor.Entry.Shape.Count == 2 ? _graph.ComputeType : TypeInFile(tensor);
    }

    private static ElementType TypeInFile(CheckpointTensor tensor) => tensor.Entry.Type switch
    {
        TensorType.UInt8 => ElementType.UInt8,
        TensorType.Float16 => ElementType.Float16,
        TensorType.BFloat16 => ElementType.BFloat16,
        _ => ElementType.Float32,
    };

    private static int Size(ElementType type) => type switch
    {
        ElementType.Float32 => sizeof(float),
        ElementType.UInt8 => 1,
        _ => sizeof(short),
    };

    private string Location(CheckpointTensor tensor) => Path.GetRelativePath(Folder!, _real[tensor.File]).Replace('\\', '/');

    private static long CommonDivisor(long a, long b) => (long)System.Numerics.BigInteger.GreatestCommonDivisor(a, b);

    private static string CommonFolder(IEnumerable<string> files)
    {
        string[] folders = [.. files.Select(file => Path.GetDirectoryName(file)!).Distinct()];
        string common = folders[0];
        StringComparison comparison = OperatingSystem.IsWindows() ? StringComparison.OrdinalIgnoreCase : StringComparison.Ordinal;
        while (!folders.All(folder => (folder + Path.DirectorySeparatorChar).StartsWith(
            common.TrimEnd(Path.DirectorySeparatorChar) + Path.DirectorySeparatorChar, comparison)))
        {
            common = Path.GetDirectoryName(common)
                ?? throw new CheckpointException(
                    $"The shards of the checkpoint lie on different drives ({string.Join(", ", folders)}); put them in one folder.");
        }

        return common;
    }
}
