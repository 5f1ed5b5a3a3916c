using System.Runtime.InteropServices;
using Google.Protobuf;
using MLNetLora.Onnx.Proto;

namespace MLNetLora.Onnx;

/// <summary>How much of what is being built stays in float32 where a graph computes in 16 bits.</summary>
internal enum Float32Scope
{
    /// <summary>What must: each operator decides.</summary>
    None,

    /// <summary>Everything but products of matrices.</summary>
    ButProducts,

    /// <summary>Everything.</summary>
    Everything,
}

/// <summary>
/// Turns a graph of float32 into one that computes in 16 bits, as autocast does in PyTorch. Products of matrices, softmax, norms and rotations are in 16 bits;
/// what rounds at every step inside of its kernel (sigmoid and what is made of it), or loses what the loss or a sum needs, stays in float32; the others go on
/// in what they are given, 16 bits where anything is. Graph inputs and outputs keep their types: trained parameters and their gradients are float32. Weights
/// that are stored in the 16-bit type are read as they are.
/// </summary>
/// <remarks>
/// Simulated, the graph stays in float32 and every number that would be in 16 bits is rounded to them where it is made: what the 16-bit graph computes but for
/// the order of sums, on machines that have no kernels for it.
/// </remarks>
internal sealed class ReducedPrecision
{
    // Their sums are in float32 inside of the kernels, and rounded once.
    private static readonly HashSet<string> s_reduced =
        [
            "Gemm", "MatMul", "FusedMatMul", "Softmax", "RotaryEmbedding", "SimplifiedLayerNormalization", "GroupQueryAttention", "Attention",
            "MatMulNBits",
        ];

    private static readonly HashSet<string> s_products = ["Gemm", "MatMul", "FusedMatMul", "MatMulNBits"];

    // Nothing is computed: what goes in comes out.
    private static readonly HashSet<string> s_moving =
    [
        "Reshape", "Transpose", "Slice", "Split", "Concat", "Gather", "GatherElements", "Unsqueeze", "Expand", "Identity", "Where", "ConstantOfShape",
        "ScatterElements", "ScatterND",
    ];

    private static readonly HashSet<string> s_following =
    [
        "Add", "Sub", "Mul", "Neg", "ReduceSum", "ReduceMean", FusedOperators.SwiGlu, FusedOperators.SwiGluGrad, FusedOperators.RmsNormGrad,
    ];

    private readonly GraphProto _graph;
    private readonly ElementType _type;
    private readonly bool _simulate;
    private readonly IReadOnlyDictionary<NodeProto, Float32Scope> _scopes;
    private readonly Dictionary<string, ValueInfoProto> _infos;
    private readonly Dictionary<string, TensorProto> _initializers;
    private readonly HashSet<string> _inputs;
    private readonly HashSet<string> _outputs;
    private readonly Dictionary<string, Kind> _kinds = [];
    private readonly Dictionary<string, string> _aliases = [];
    private readonly Dictionary<string, string> _shared = []; // casts of inputs and constants
    private readonly List<NodeProto> _head = [];
    private readonly Dictionary<NodeProto, List<NodeProto>> _before = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<NodeProto, List<NodeProto>> _after = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<NodeProto> _dropped = new(ReferenceEqualityComparer.Instance);
    private int _casts;

    private ReducedPrecision(GraphProto graph, ElementType type, bool simulate, IReadOnlyDictionary<NodeProto, Float32Scope> scopes)
    {
        (_graph, _type, _simulate, _scopes) = (graph, type, simulate, scopes);
        _infos = graph.ValueInfo.Concat(graph.Input).Concat(graph.Output).ToDictionary(info => info.Name);
        _initializers = graph.Initializer.ToDictionary(tensor => tensor.Name);
        _inputs = [.. graph.Input.Select(input => input.Name)];
        _outputs = [.. graph.Output.Select(output => output.Name)];
    }

    /// <summary>What a number of the float32 graph is here.</summary>
    private enum Kind
    {
        /// <summary>A constant, which is whatever is wanted.</summary>
        Any,

        /// <summary>16 bits.</summary>
        Reduced,

        /// <summary>float32.</summary>
        Full,
    }

    /// <summary>Changes a graph.</summary>
    /// <param name="graph">A graph of float32, whose nodes may stand in any order.</param>
    /// <param name="type">The 16-bit type.</param>
    /// <param name="simulate">Rounds instead.</param>
    /// <param name="scopes">Nodes that were made in a scope.</param>
    public static void Apply(GraphProto graph, ElementType type, bool simulate, IReadOnlyDictionary<NodeProto, Float32Scope> scopes) =>
        new ReducedPrecision(graph, type, simulate, scopes).Apply();

    private void Apply()
    {
        foreach (NodeProto node in InOrder())
        {
            Place(node);
        }

        NodeProto[] nodes = [.. _graph.Node];
        _graph.Node.Clear();
        _graph.Node.AddRange(_head);
        foreach (NodeProto node in nodes)
        {
            _graph.Node.AddRange(_before.GetValueOrDefault(node) ?? []);
            if (!_dropped.Contains(node))
            {
                _graph.Node.Add(node);
            }

            _graph.Node.AddRange(_after.GetValueOrDefault(node) ?? []);
        }

        HashSet<string> made = [.. _graph.Node.SelectMany(node => node.Output)];
        ValueInfoProto[] infos = [.. _infos.Values.Where(info => made.Contains(info.Name) && !_outputs.Contains(info.Name))];
        _graph.ValueInfo.Clear();
        _graph.ValueInfo.AddRange(infos);
        HashSet<string> read = [.. _graph.Node.SelectMany(node => node.Input)];
        TensorProto[] initializers = [.. _initializers.Values.Where(tensor => read.Contains(tensor.Name))];
        _graph.Initializer.Clear();
        _graph.Initializer.AddRange(initializers);
    }

    /// <summary>Every node after those that make what it reads.</summary>
    private List<NodeProto> InOrder()
    {
        Dictionary<string, NodeProto> makers = [];
        foreach (NodeProto node in _graph.Node)
        {
            foreach (string output in node.Output)
            {
                makers[output] = node;
            }
        }

        List<NodeProto> order = [];
        HashSet<NodeProto> done = new(ReferenceEqualityComparer.Instance);
        Stack<(NodeProto Node, bool IsOpen)> open = new(_graph.Node.Reverse().Select(node => (node, false)));
        while (open.TryPop(out (NodeProto Node, bool IsOpen) next))
        {
            if (next.IsOpen)
            {
                order.Add(next.Node);
            }
            else if (done.Add(next.Node))
            {
                open.Push((next.Node, true));
                foreach (string input in next.Node.Input)
                {
                    if (makers.TryGetValue(input, out NodeProto? maker) && !done.Contains(maker))
                    {
                        open.Push((maker, false));
                    }
                }
            }
        }

        return order;
    }

    private void Place(NodeProto node)
    {
        Float32Scope scope = _scopes.GetValueOrDefault(node);
        if (node.OpType == "Cast")
        {
            PlaceCast(node, scope);
            return;
        }

        if (node.OpType == "Shape")
        {
            node.Input[0] = Resolve(node.Input[0]);
            return;
        }

        bool isFull = scope == Float32Scope.Everything
            || (scope == Float32Scope.ButProducts && !s_products.Contains(node.OpType))
            || IsSum(node)
            || node.Output.Any(output => _outputs.Contains(output) && IsFloat(output));
        Kind[] given = [.. node.Input.Where(IsFloat).Select(KindOf)];
        Kind kind = isFull ? Kind.Full
            : s_reduced.Contains(node.OpType) ? Kind.Reduced
            : !s_moving.Contains(node.OpType) && !s_following.Contains(node.OpType) ? Kind.Full
            : given.Contains(Kind.Reduced) || !given.Contains(Kind.Full) ? Kind.Reduced
            : Kind.Full;
        for (int i = 0; i < node.Input.Count; i++)
        {
            bool isStatistic = node.OpType == FusedOperators.RmsNormGrad && i == FusedOperators.InverseStd;
            node.Input[i] = IsFloat(node.Input[i]) ? As(node.Input[i], isStatistic ? Kind.Full : kind, node) : Resolve(node.Input[i]);
        }

        for (int i = 0; i < node.Output.Count; i++)
        {
            if (IsFloat(node.Output[i]))
            {
                // The norm's second output is the row's 1/√(mean x² + ε), in float32 whatever x is.
                bool isStatistic = node.OpType == "SimplifiedLayerNormalization" && i == 1;
                SetKind(node, i, isStatistic ? Kind.Full : kind);
            }
        }

        if (node.OpType == "ConstantOfShape" && kind == Kind.Reduced && !_simulate)
        {
            TensorProto zero = new() { DataType = (int)_type, RawData = ByteString.CopyFrom(0, 0) };
            zero.Dims.Add(1);
            node.Attribute.Add(new AttributeProto { Name = "value", Type = AttributeProto.Types.AttributeType.Tensor, T = zero });
        }
    }

    /// <summary>A cast of the float32 graph: of a stored weight, of whole numbers, to them, or to double precision and back.</summary>
    private void PlaceCast(NodeProto node, Float32Scope scope)
    {
        string source = node.Input[0];
        ElementType stored = TypeOf(source);
        if (!IsFloat(node.Output[0]))
        {
            node.Input[0] = IsFloat(source) ? As(source, Kind.Full, node) : Resolve(source);
            return;
        }

        bool isHalf = stored is ElementType.Float16 or ElementType.BFloat16;
        if (!isHalf || scope == Float32Scope.Everything || _outputs.Contains(node.Output[0]))
        {
            node.Input[0] = Resolve(source);
            _kinds[node.Output[0]] = Kind.Full;
        }
        else if (stored == _type)
        {
            _kinds[node.Output[0]] = Kind.Reduced;
            if (!_simulate)
            {
                _aliases[node.Output[0]] = Resolve(source);
                _dropped.Add(node);
            }
        }
        else if (_simulate)
        {
            SetKind(node, 0, Kind.Reduced, isRounded: false);
        }
        else
        {
            node.Attribute.Single(attribute => attribute.Name == "to").I = (long)_type;
            SetKind(node, 0, Kind.Reduced);
        }
    }

    /// <summary>Notes what an output is. Simulated, it is rounded where a kernel would have.</summary>
    private void SetKind(NodeProto node, int output, Kind kind, bool? isRounded = null)
    {
        string name = node.Output[output];
        _kinds[name] = kind;
        if (kind != Kind.Reduced)
        {
            return;
        }

        if (!_simulate)
        {
            _infos[name].Type.TensorType.ElemType = (int)_type;
        }
        else if (!(isRounded ?? s_moving.Contains(node.OpType)))
        {
            string raw = name + ".unrounded";
            node.Output[output] = raw;
            _infos[raw] = Renamed(_infos[name], raw, ElementType.Float32);
            (_after.TryGetValue(node, out List<NodeProto>? after) ? after : _after[node] = []).AddRange(Rounding(raw, name));
        }
    }

    /// <summary>The name under which a number can be read as what is wanted.</summary>
    private string As(string name, Kind kind, NodeProto reader)
    {
        Kind given = KindOf(name);
        if (given == Kind.Any)
        {
            return kind == Kind.Reduced ? Constant(name) : name;
        }

        if (given == kind || (kind == Kind.Full && _simulate))
        {
            return Resolve(name);
        }

        // Inputs are cast once. An initializer is at each use, so that no copy of a weight lives between forward and backward.
        bool isInput = _inputs.Contains(name);
        if (isInput && _shared.TryGetValue(name, out string? known))
        {
            return known;
        }

        string cast = $"{name}.{(kind == Kind.Full ? "float" : "reduced")}.{_casts++}";
        List<NodeProto> place = isInput || _initializers.ContainsKey(Resolve(name)) ? _head
            : _before.TryGetValue(reader, out List<NodeProto>? before) ? before : _before[reader] = [];
        if (_simulate)
        {
            place.AddRange(Rounding(name, cast));
            _infos[cast] = Renamed(_infos.GetValueOrDefault(name), cast, ElementType.Float32);
        }
        else
        {
            ElementType to = kind == Kind.Full ? ElementType.Float32 : _type;
            place.Add(Cast(Resolve(name), cast, to));
            _infos[cast] = Renamed(_infos.GetValueOrDefault(name), cast, to);
        }

        if (isInput)
        {
            _shared[name] = cast;
        }

        return cast;
    }

    /// <summary>A constant in 16 bits.</summary>
    private string Constant(string name)
    {
        if (_shared.TryGetValue(name, out string? known))
        {
            return known;
        }

        TensorProto full = _initializers[name];
        ushort[] bits = [.. MemoryMarshal.Cast<byte, float>(full.RawData.Span).ToArray().Select(Bits)];
        string reduced = name + ".reduced";
        TensorProto tensor = new() { Name = reduced };
        tensor.Dims.AddRange(full.Dims);
        if (_simulate)
        {
            (tensor.DataType, tensor.RawData) = ((int)ElementType.Float32, ByteString.CopyFrom(MemoryMarshal.AsBytes<float>(bits.Select(Number).ToArray())));
        }
        else
        {
            (tensor.DataType, tensor.RawData) = ((int)_type, ByteString.CopyFrom(MemoryMarshal.AsBytes<ushort>(bits)));
        }

        _initializers[reduced] = tensor;
        return _shared[name] = reduced;
    }

    private ushort Bits(float value)
    {
        if (_type == ElementType.Float16)
        {
            // What stands for minus infinity must not become one: a difference of two is no number.
            return BitConverter.HalfToUInt16Bits((Half)Math.Clamp(value, (float)Half.MinValue, (float)Half.MaxValue));
        }

        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16); // to the nearest, even where two are as near
    }

    private float Number(ushort bits) =>
        _type == ElementType.Float16 ? (float)BitConverter.UInt16BitsToHalf(bits) : BitConverter.UInt32BitsToSingle((uint)bits << 16);

    private NodeProto[] Rounding(string from, string to)
    {
        string between = to + ".bits";
        _infos[between] = Renamed(_infos.GetValueOrDefault(from), between, _type);
        return [Cast(from, between, _type), Cast(between, to, ElementType.Float32)];
    }

    private static NodeProto Cast(string from, string to, ElementType type)
    {
        NodeProto node = new() { OpType = "Cast", Name = to + "_cast" };
        node.Input.Add(from);
        node.Output.Add(to);
        node.Attribute.Add(new AttributeProto { Name = "to", Type = AttributeProto.Types.AttributeType.Int, I = (long)type });
        return node;
    }

    private ValueInfoProto Renamed(ValueInfoProto? info, string name, ElementType type)
    {
        ValueInfoProto renamed = info?.Clone() ?? OfInitializer();
        renamed.Name = name;
        renamed.Type.TensorType.ElemType = (int)type;
        return renamed;

        ValueInfoProto OfInitializer()
        {
            string source = name[..name.LastIndexOf('.')];
            TensorShapeProto shape = new();
            while (!_initializers.ContainsKey(source))
            {
                source = source[..source.LastIndexOf('.')];
            }

            shape.Dim.AddRange(_initializers[source].Dims.Select(size => new TensorShapeProto.Types.Dimension { DimValue = size }));
            return new ValueInfoProto { Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { Shape = shape } } };
        }
    }

    /// <summary>Whether it scatters by adding: numbers that meet are added one after another, and a long sum in 16 bits stands still.</summary>
    private static bool IsSum(NodeProto node) =>
        node.Attribute.Any(attribute => attribute.Name == "reduction" && attribute.S.ToStringUtf8() != "none");

    private string Resolve(string name) => _aliases.GetValueOrDefault(name, name);

    private bool IsFloat(string name) => name.Length > 0 && (_kinds.ContainsKey(name) || TypeOf(name) == ElementType.Float32);

    private ElementType TypeOf(string name) => _initializers.TryGetValue(name, out TensorProto? tensor) ? (ElementType)tensor.DataType
        : _infos.TryGetValue(name, out ValueInfoProto? info) && info.Type.TensorType is { } type ? (ElementType)type.ElemType
        : default;

    private Kind KindOf(string name) => _kinds.TryGetValue(name, out Kind kind) ? kind
        : _initializers.TryGetValue(name, out TensorProto? tensor) && tensor.ExternalData.Count == 0 ? Kind.Any
        : Kind.Full;
}
