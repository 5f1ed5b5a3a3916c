using System.Globalization;
using System.Runtime.InteropServices;
using Google.Protobuf;
using MLNetLora.Onnx.Proto;

namespace MLNetLora.Onnx;

/// <summary>
/// Collects the nodes of one ONNX graph (opset 18 and com.microsoft 1) and writes it as a model.
/// The operators themselves are in the other parts of this class: one method per operator.
/// </summary>
/// <remarks>
/// ONNX Runtime runs nodes in reversed depth-first order from the outputs, the output whose node stands last in the file first.
/// Nodes made inside <see cref="AtEnd"/> are therefore written after all others, the group made first standing last:
/// in a backward pass the last layer's gradients, made first, are then computed first and its activations are freed.
/// What feeds a node it visits in the same order, from the last in the file to the first. The upcast of a frozen 16-bit weight that stood behind the
/// maker of the activation would therefore run before that maker and everything below it: the float32 copies of all layers would be made first and
/// wait. So casts of initializers are written at the head of the file, where they run last.
/// The shape of every value is written, with its symbols: the runtime gives the memory of a value that is done with to the next of the same shape,
/// and looks for one at a cost that grows with the square of the number of nodes where shapes are unknown. A symbol must therefore stand for one size
/// in the whole graph.
/// </remarks>
internal sealed partial class GraphBuilder
{
    /// <summary>Opset of the default domain: the last one whose kernels all have CUDA registrations.</summary>
    public const int Opset = 18;

    /// <summary>The same of graphs with <see cref="Attention"/>, which it brings.</summary>
    public const int FlashOpset = 23;

    private readonly GraphProto _graph = new();
    private readonly List<NodeProto> _head = []; // casts of initializers
    private readonly List<NodeProto> _body = [];
    private readonly List<List<NodeProto>> _endGroups = [];
    private readonly List<NodeProto> _tail = [];
    private readonly List<ValueInfoProto> _infos = [];
    private readonly Dictionary<string, int> _names = [];
    private readonly HashSet<string> _initializers = [];
    private readonly Dictionary<string, Value> _constants = [];
    private readonly Dictionary<Value, (Value, Value)> _once = [];
    private readonly Dictionary<NodeProto, Float32Scope> _scopes = new(ReferenceEqualityComparer.Instance);
    private Float32Scope _float32;
    private List<NodeProto>? _group;
    private GraphProto? _inner; // the body of a loop while it is being made
    private string _scope = "";
    private string _memory = ""; // behind the symbols of values that take over memory among themselves alone
    private int _memories;

    /// <summary>Starts an empty graph.</summary>
    /// <param name="name">Name written into the file.</param>
    public GraphBuilder(string name) => _graph.Name = name;

    /// <summary>
    /// Whether the graph is written for ONNX Runtime's CUDA provider. The same numbers, by operators that are slower on a processor: what that provider does
    /// with cuDNN alone, which is not everywhere, or with one thread for a row, is written otherwise.
    /// </summary>
    public bool ForCuda { get; init; }

    /// <summary>Whether experts are computed in blocks of a size that is known from shapes (<see cref="Differentiable.BlockedExperts"/>), which a graph for
    /// CUDA needs, and not one after the other.</summary>
    public bool ExpertsInBlocks { get => field || ForCuda; init; }

    /// <summary>
    /// Whether what <see cref="FusedOperators"/> has is one node each: kernels of this library's own for the CUDA provider. On a processor, which has none, the
    /// model brings their formulas along, so that what such a graph computes can be compared with the plain one.
    /// </summary>
    public bool FusesKernels { get; init; }

    /// <summary>
    /// Whether runs are captured as CUDA graphs, in which a copy is made anew at each launch: nothing then stands in the graph that copies from memory of the
    /// process, where there is something else by then.
    /// </summary>
    public bool ForCapture { get; init; }

    /// <summary>What the graph computes in where it can: float32, or a 16-bit type (<see cref="ReducedPrecision"/>).</summary>
    public ElementType ComputeType { get; init; } = ElementType.Float32;

    /// <summary>Whether <see cref="ComputeType"/> is simulated in float32, by rounding: for processors, which have no kernels for it.</summary>
    public bool SimulatesComputeType { get; init; }

    /// <summary>Nodes so far.</summary>
    public int NodeCount => InFileOrder().Count();

    /// <summary>Declares a graph input.</summary>
    public Value Input(string name, ElementType type, params Dimension[] shape)
    {
        Claim(name);
        _graph.Input.Add(Describe(name, type, shape));
        return new Value(name, type, shape);
    }

    /// <summary>Declares a graph output with a name of its own; the value must not be an input or initializer itself.</summary>
    public void Output(string name, Value value)
    {
        Claim(name);
        Emit("Identity", [value], name, value.Type, value.Shape);
        _graph.Output.Add(Describe(name, value.Type, value.Shape));
    }

    /// <summary>Declares the output of the node that computes it, under the name that the value already has.</summary>
    public void Output(Value value) => _graph.Output.Add(Describe(value.Name, value.Type, value.Shape));

    /// <summary>An initializer whose bytes lie in a file beside the model: nothing is copied, the runtime maps them.</summary>
    /// <param name="name">Name of the initializer.</param>
    /// <param name="type">Element type of the bytes.</param>
    /// <param name="shape">Shape of the tensor.</param>
    /// <param name="location">File, relative to the folder that the session is given.</param>
    /// <param name="offset">First byte.</param>
    /// <param name="length">Number of bytes.</param>
    public Value External(string name, ElementType type, IReadOnlyList<long> shape, string location, long offset, long length)
    {
        Claim(name);
        TensorProto tensor = new() { Name = name, DataType = (int)type, DataLocation = TensorProto.Types.DataLocation.External };
        tensor.Dims.AddRange(shape);
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = location });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "offset", Value = offset.ToString(CultureInfo.InvariantCulture) });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "length", Value = length.ToString(CultureInfo.InvariantCulture) });
        AddInitializer(tensor);
        return new Value(name, type, [.. shape.Select(size => (Dimension)size)]);
    }

    /// <summary>The initializer of another graph under the same name, over the same bytes; null where that graph has none in a file.</summary>
    internal Value? Import(GraphBuilder other, string name)
    {
        if (other._graph.Initializer.FirstOrDefault(tensor => tensor.Name == name && tensor.ExternalData.Count > 0) is not { } tensor)
        {
            return null;
        }

        if (_names.TryAdd(name, 0))
        {
            AddInitializer(tensor.Clone());
        }

        return new Value(name, (ElementType)tensor.DataType, [.. tensor.Dims.Select(size => (Dimension)size)]);
    }

    /// <summary>A constant vector of 64-bit integers; equal ones are shared.</summary>
    public Value Int64s(params long[] values) =>
        Constant("i64:" + string.Join(',', values.Select(value => value.ToString(CultureInfo.InvariantCulture))), ElementType.Int64, [values.Length],
            MemoryMarshal.AsBytes<long>(values));

    /// <summary>A constant 64-bit integer without axes.</summary>
    public Value Int64(long value) =>
        Constant("i64s:" + value.ToString(CultureInfo.InvariantCulture), ElementType.Int64, [], MemoryMarshal.AsBytes<long>(new[] { value }));

    /// <summary>A constant float without axes; equal ones are shared.</summary>
    public Value Float(float value) =>
        Constant("f32:" + value.ToString("R", CultureInfo.InvariantCulture), ElementType.Float32, [], MemoryMarshal.AsBytes<float>(new[] { value }));

    /// <summary>The table of a name; null where there is none yet.</summary>
    public Value? FindTable(string name) => _constants.GetValueOrDefault("table:" + name);

    /// <summary>A constant table of floats, [rows, columns]; those of one name are shared and must be equal.</summary>
    public Value Table(string name, float[] values, int columns) =>
        Constant("table:" + name, ElementType.Float32, [values.Length / columns, columns], MemoryMarshal.AsBytes<float>(values));

    /// <summary>A constant table of 64-bit integers, [count]; those of one name are shared and must be equal.</summary>
    public Value Int64Table(string name, long[] values) =>
        Constant("table:" + name, ElementType.Int64, [values.Length], MemoryMarshal.AsBytes<long>(values));

    /// <summary>A constant table of floats, [count]; those of one name are shared and must be equal.</summary>
    public Value FloatTable(string name, float[] values) =>
        Constant("table:" + name, ElementType.Float32, [values.Length], MemoryMarshal.AsBytes<float>(values));

    /// <summary>A constant table of unsigned bytes, [count]; those of one name are shared and must be equal.</summary>
    public Value UInt8Table(string name, byte[] values) => Constant("table:" + name, ElementType.UInt8, [values.Length], values);

    /// <summary>A constant 32-bit integer without axes; equal ones are shared.</summary>
    public Value Int32(int value) =>
        Constant("i32:" + value.ToString(CultureInfo.InvariantCulture), ElementType.Int32, [], MemoryMarshal.AsBytes<int>(new[] { value }));

    /// <summary>A constant unsigned byte without axes; equal ones are shared.</summary>
    public Value UInt8(byte value) => Constant("u8:" + value.ToString(CultureInfo.InvariantCulture), ElementType.UInt8, [], [value]);

    /// <summary>Names of the initializers that the outputs depend on.</summary>
    public IReadOnlySet<string> UsedInitializers()
    {
        HashSet<string> needed = Needed();
        return _graph.Initializer.Select(tensor => tensor.Name).Where(needed.Contains).ToHashSet();
    }

    /// <summary>What is made of a value once, however often it is asked for.</summary>
    internal (Value, Value) Once(Value value, Func<(Value, Value)> emit) => _once.TryGetValue(value, out (Value, Value) known) ? known : _once[value] = emit();

    /// <summary>Names made until the result is disposed start with this prefix, so that people find their way in a viewer.</summary>
    public IDisposable Scope(string prefix)
    {
        string before = _scope;
        _scope = before + prefix + "/";
        return new Undo(() => _scope = before);
    }

    /// <summary>Nodes made until the result is disposed stay in float32 where the graph computes in 16 bits.</summary>
    /// <param name="products">Products of matrices, too.</param>
    public IDisposable InFloat32(bool products = false)
    {
        Float32Scope before = _float32;
        _float32 = products || before == Float32Scope.Everything ? Float32Scope.Everything : Float32Scope.ButProducts;
        return new Undo(() => _float32 = before);
    }

    /// <summary>Nodes made until the result is disposed are written at the head of the file: what is computed from initializers alone.</summary>
    public IDisposable AtHead() => Into(_head);

    /// <summary>Nodes made until the result is disposed are written at the end of the file, groups in reversed order of their making.</summary>
    public IDisposable AtEnd()
    {
        List<NodeProto> group = [];
        _endGroups.Add(group);
        return Into(group);
    }

    /// <summary>Nodes made until the result is disposed are written right after the node that computes a value, in its group.</summary>
    public IDisposable AtEndOf(Value value) =>
        Into(_endGroups.Append(_tail).FirstOrDefault(group => group.Any(node => node.Output.Contains(value.Name))));

    /// <summary>Nodes made until the result is disposed are written after those of <see cref="AtEnd"/>, in the order of their making.</summary>
    public IDisposable AtVeryEnd() => Into(_tail);

    /// <summary>A symbol that nothing else in the graph has: values with it in their shapes never take over each other's memory as those of equal
    /// shapes do.</summary>
    public Dimension Symbol(string name) => Unique(name);

    /// <summary>
    /// Values made until the result is disposed take over each other's memory and that of no others: their symbols are their own. Of memory that is handed
    /// on from one part of a graph to the next, every size that occurs is held from the first part to the last, and all of them together are far more than
    /// what any part needs at a time. At load the runtime looks longer for what can be taken over, at a cost that grows with the square of the number of parts.
    /// </summary>
    public IDisposable OwnMemory()
    {
        string before = _memory;
        _memory = $"@{++_memories}";
        return new Undo(() => _memory = before);
    }

    /// <summary>Adds a node with one output.</summary>
    /// <param name="op">Operator name.</param>
    /// <param name="inputs">Inputs; null stands for an optional input left out.</param>
    /// <param name="type">Element type of the output.</param>
    /// <param name="shape">Shape of the output.</param>
    /// <param name="domain">Operator domain; empty for ONNX's own.</param>
    /// <param name="attributes">Attributes: long, float, string, long[] or a graph.</param>
    public Value Node(string op, IReadOnlyList<Value?> inputs, ElementType type, IReadOnlyList<Dimension> shape, string domain = "",
        params (string Name, object Value)[] attributes) =>
        Emit(op, inputs, Unique(op), type, shape, domain, attributes);

    /// <summary>Adds a node with several outputs; an output with a name of its own keeps it.</summary>
    public Value[] Nodes(string op, IReadOnlyList<Value?> inputs, IReadOnlyList<(ElementType Type, IReadOnlyList<Dimension> Shape, string? Name)> outputs,
        string domain = "", params (string Name, object Value)[] attributes)
    {
        NodeProto node = MakeNode(op, inputs, domain, attributes);
        Value[] values = [
            .. outputs.Select((output, i) => new Value(output.Name is null ? Unique(op + i) : Claim(output.Name), output.Type, [.. output.Shape]))];
        node.Output.AddRange(values.Select(value => value.Name));
        Add(node, values);
        return values;
    }

    /// <summary>The whole model as the bytes of an .onnx file.</summary>
    public byte[] ToBytes()
    {
        GraphProto graph = ToGraph();
        if (ComputeType != ElementType.Float32)
        {
            ReducedPrecision.Apply(graph, ComputeType, SimulatesComputeType, _scopes);
        }

        bool isOfFlash = graph.Node.Any(node => node is { OpType: "Attention", Domain: "" });
        ModelProto model = new() { IrVersion = isOfFlash ? 11 : 8, ProducerName = "MLNetLora", Graph = graph };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = isOfFlash ? FlashOpset : Opset });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = Microsoft, Version = 1 });
        string[] fused = [.. graph.Node.Where(node => node.Domain == FusedOperators.Domain).Select(node => node.OpType).Distinct()];
        if (fused.Length > 0)
        {
            model.OpsetImport.Add(new OperatorSetIdProto { Domain = FusedOperators.Domain, Version = 1 });
            model.Functions.AddRange(ForCuda ? [] : fused.Select(FusedOperators.Formula));
        }

        return model.ToByteArray();
    }

    /// <summary>The graph as the formula of an operator: constants become nodes, and types and shapes are those of whatever it is given.</summary>
    /// <param name="domain">The operator's domain.</param>
    internal FunctionProto ToFunction(string domain)
    {
        GraphProto graph = ToGraph();
        FunctionProto function = new() { Name = graph.Name, Domain = domain };
        function.Input.AddRange(graph.Input.Select(input => input.Name));
        function.Output.AddRange(graph.Output.Select(output => output.Name));
        foreach (TensorProto tensor in graph.Initializer)
        {
            NodeProto constant = new() { OpType = "Constant", Name = tensor.Name + "_node" };
            constant.Output.Add(tensor.Name);
            constant.Attribute.Add(new AttributeProto { Name = "value", Type = AttributeProto.Types.AttributeType.Tensor, T = tensor });
            function.Node.Add(constant);
        }

        function.Node.AddRange(graph.Node);
        function.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = Opset });
        function.OpsetImport.Add(new OperatorSetIdProto { Domain = Microsoft, Version = 1 });
        return function;
    }

    private GraphProto ToGraph()
    {
        HashSet<string> asked = Needed();
        NodeProto[] nodes = [.. InFileOrder().Select(node => WithoutUnused(node, asked))];
        HashSet<string> needed = Needed(nodes, _graph.Output.Select(output => output.Name));
        GraphProto graph = _graph.Clone();
        graph.Node.AddRange(nodes.Where(node => node.Output.Any(needed.Contains)));
        HashSet<string> outputs = [.. graph.Output.Select(output => output.Name)];
        graph.ValueInfo.AddRange(_infos.Where(info => needed.Contains(info.Name) && !outputs.Contains(info.Name)));
        TensorProto[] initializers = [.. graph.Initializer.Where(tensor => needed.Contains(tensor.Name))];
        graph.Initializer.Clear();
        graph.Initializer.AddRange(initializers);
        return graph;
    }

    /// <summary>All nodes as they are written.</summary>
    private IEnumerable<NodeProto> InFileOrder() => [.. _head, .. _body, .. Enumerable.Reverse(_endGroups).SelectMany(group => group), .. _tail];

    /// <summary>
    /// The values that the outputs depend on. Nodes that nothing depends on are left out: the runtime would run them, after all others, and keep what
    /// they read until then.
    /// The end of a block that is emitted a second time for its backward pass is of this kind.
    /// </summary>
    private HashSet<string> Needed() => Needed(InFileOrder(), _graph.Output.Select(output => output.Name));

    private static HashSet<string> Needed(IEnumerable<NodeProto> nodes, IEnumerable<string> outputs)
    {
        Dictionary<string, NodeProto> makers = nodes
            .SelectMany(node => node.Output.Select(output => (output, node)))
            .ToDictionary(pair => pair.output, pair => pair.node);
        HashSet<string> needed = [];
        Stack<string> open = new(outputs);
        while (open.TryPop(out string? name))
        {
            if (needed.Add(name) && makers.TryGetValue(name, out NodeProto? maker))
            {
                foreach (string input in Inputs(maker))
                {
                    open.Push(input);
                }
            }
        }

        return needed;
    }

    /// <summary>What a node reads, what the body of a loop reads from outside included.</summary>
    private static IEnumerable<string> Inputs(NodeProto node) =>
        node.Input.Concat(node.Attribute.Where(attribute => attribute.G is not null).SelectMany(attribute => attribute.G.Node.SelectMany(Inputs)));

    private Undo Into(List<NodeProto>? group)
    {
        List<NodeProto>? before = _group;
        _group = group;
        return new Undo(() => _group = before);
    }

    private void AddInitializer(TensorProto tensor)
    {
        _graph.Initializer.Add(tensor);
        _initializers.Add(tensor.Name);
    }

    private Value Constant(string key, ElementType type, long[] dims, ReadOnlySpan<byte> bytes)
    {
        if (_constants.TryGetValue(key, out Value? known))
        {
            return known;
        }

        TensorProto tensor = new() { Name = Claim("const/" + key), DataType = (int)type, RawData = ByteString.CopyFrom(bytes) };
        tensor.Dims.AddRange(dims);
        AddInitializer(tensor);
        return _constants[key] = new Value(tensor.Name, type, [.. dims.Select(size => (Dimension)size)]);
    }

    private Value Emit(string op, IReadOnlyList<Value?> inputs, string output, ElementType type, IReadOnlyList<Dimension> shape, string domain = "",
        params (string Name, object Value)[] attributes)
    {
        NodeProto node = MakeNode(op, inputs, domain, attributes);
        node.Output.Add(output);
        Value value = new(output, type, [.. shape]);
        Add(node, value);
        return value;
    }

    private void Add(NodeProto node, params ReadOnlySpan<Value> outputs)
    {
        if (_float32 != Float32Scope.None)
        {
            _scopes[node] = _float32;
        }

        if (_group is null && _inner is not null)
        {
            _inner.Node.Add(node);
        }
        else
        {
            (_group ?? _body).Add(node);
        }

        foreach (Value output in outputs)
        {
            ValueInfoProto info = Describe(output.Name, output.Type, output.Shape);
            if (_group is null && _inner is not null)
            {
                _inner.ValueInfo.Add(info);
            }
            else
            {
                _infos.Add(info);
            }
        }
    }

    private NodeProto MakeNode(string op, IReadOnlyList<Value?> inputs, string domain, (string Name, object Value)[] attributes)
    {
        NodeProto node = new() { OpType = op, Domain = domain, Name = Unique(op + "_node") };
        node.Input.AddRange(inputs.Select(input => input?.Name ?? ""));
        foreach ((string name, object value) in attributes)
        {
            AttributeProto attribute = new() { Name = name };
            switch (value)
            {
                case long i: attribute.Type = AttributeProto.Types.AttributeType.Int; attribute.I = i; break;
                case float f: attribute.Type = AttributeProto.Types.AttributeType.Float; attribute.F = f; break;
                case string s: attribute.Type = AttributeProto.Types.AttributeType.String; attribute.S = ByteString.CopyFromUtf8(s); break;
                case long[] ints: attribute.Type = AttributeProto.Types.AttributeType.Ints; attribute.Ints.AddRange(ints); break;
                case GraphProto body: attribute.Type = AttributeProto.Types.AttributeType.Graph; attribute.G = body; break;
                default:
                    throw new ArgumentException(
                        $"Attribute {name} of {op} has the type {value.GetType().Name}; it must be long, float, string, long[] or a graph.",
                        nameof(attributes));
            }

            node.Attribute.Add(attribute);
        }

        return node;
    }

    private string Claim(string name) =>
        _names.TryAdd(name, 0) ? name : throw new ArgumentException($"The graph already has a value named '{name}'.", nameof(name));

    private string Unique(string op)
    {
        string name = _scope + op;
        ref int count = ref CollectionsMarshal.GetValueRefOrAddDefault(_names, name, out bool exists);
        if (!exists)
        {
            return name;
        }

        count++;
        return Unique($"{op}_{count}");
    }

    private ValueInfoProto Describe(string name, ElementType type, IReadOnlyList<Dimension> shape)
    {
        TensorShapeProto dims = new();
        foreach (Dimension dimension in shape)
        {
            dims.Dim.Add(dimension.Symbol is null
                ? new TensorShapeProto.Types.Dimension { DimValue = dimension.Size }
                : new TensorShapeProto.Types.Dimension { DimParam = dimension.Symbol + _memory });
        }

        return new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)type, Shape = dims } } };
    }

    private sealed class Undo(Action action) : IDisposable
    {
        public void Dispose() => action();
    }
}
