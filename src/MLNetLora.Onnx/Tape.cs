namespace MLNetLora.Onnx;

/// <summary>
/// Reverse-mode differentiation of a graph while it is being built. Operators in Differentiable/ emit their forward nodes and
/// <see cref="Record(Value, IEnumerable{Value}, Action{Value})"/> how to emit their backward nodes; <see cref="Backward(Value)"/> then walks the records in
/// reverse.
/// Values below the lowest trainable tensor need no gradient and get no backward nodes.
/// </summary>
internal sealed class Tape
{
    private readonly Tape _root;
    private readonly List<(Value[] Outputs, Action<Value?[]> Backward)> _records = [];
    private readonly Dictionary<Value, Value> _gradients = [];
    private readonly HashSet<Value> _needed = [];
    private readonly Dictionary<Value, List<Value>> _parameterGradients = [];

    /// <summary>Starts a tape on a graph.</summary>
    /// <param name="graph">Graph that forward and backward nodes go to.</param>
    public Tape(GraphBuilder graph)
        : this(graph, null)
    {
    }

    private Tape(GraphBuilder graph, Tape? root)
    {
        Graph = graph;
        _root = root ?? this;
    }

    /// <summary>The graph under construction.</summary>
    public GraphBuilder Graph { get; }

    /// <summary>Whether the gradient of a value is wanted: it is trainable, or computed from something trainable.</summary>
    public bool Needs(Value value) => _needed.Contains(value) || _root._parameterGradients.ContainsKey(value);

    /// <summary>Declares a trainable tensor.</summary>
    public Weight Parameter(Value value)
    {
        _root._parameterGradients.TryAdd(value, []);
        return new FloatWeight(value, isTrainable: true);
    }

    /// <summary>Records an operator that has been emitted.</summary>
    /// <param name="output">What it computed.</param>
    /// <param name="inputs">What its gradient may flow to; parameters included.</param>
    /// <param name="backward">Given the gradient of <paramref name="output"/>, emits the gradients of the inputs through AddGradient and
    /// <see cref="AddParameterGradient"/>.</param>
    /// <returns><paramref name="output"/>.</returns>
    public Value Record(Value output, IEnumerable<Value> inputs, Action<Value> backward) =>
        Record([output], inputs, gradients => backward(gradients[0]!))[0];

    /// <summary>Records an operator with several outputs.</summary>
    /// <param name="outputs">What it computed.</param>
    /// <param name="inputs">What its gradient may flow to; parameters included.</param>
    /// <param name="backward">Given the gradient of each output, null for one that nothing depends on, emits those of the inputs; called where there is
    /// at least one.</param>
    /// <returns><paramref name="outputs"/>.</returns>
    public Value[] Record(Value[] outputs, IEnumerable<Value> inputs, Action<Value?[]> backward)
    {
        if (inputs.Any(Needs))
        {
            _needed.UnionWith(outputs);
            _records.Add((outputs, backward));
        }

        return outputs;
    }

    /// <summary>Adds to the gradient of a value where one is wanted.</summary>
    /// <param name="value">The value.</param>
    /// <param name="emit">Given the gradient so far (null at first), emits the new total; a matrix product can take the sum so far as its C.</param>
    public void AddGradient(Value value, Func<Value?, Value> emit)
    {
        if (_needed.Contains(value))
        {
            _gradients[value] = emit(_gradients.GetValueOrDefault(value));
        }
        else if (_root._parameterGradients.ContainsKey(value))
        {
            AddParameterGradient(value, () => emit(null));
        }
    }

    /// <summary>Adds to the gradient of a value where one is wanted; nothing is emitted where none is.</summary>
    public void AddGradient(Value value, Func<Value> emit) => AddGradient(value, sum => sum is null ? emit() : Graph.Add(sum, emit()));

    /// <summary>Adds to the gradient of a trainable tensor; its nodes are written at the end of the file (see <see cref="GraphBuilder.AtEnd"/>).</summary>
    public void AddParameterGradient(Value parameter, Func<Value> emit)
    {
        if (_root._parameterGradients.TryGetValue(parameter, out List<Value>? parts))
        {
            using (Graph.AtEnd())
            {
                parts.Add(emit());
            }
        }
    }

    /// <summary>
    /// Runs a segment of the graph without keeping its intermediate values; the backward pass emits the segment a second time
    /// (activation checkpointing, Chen et al. 2016, arXiv:1604.06174).
    /// </summary>
    /// <param name="input">The only value that flows into the segment and needs a gradient, parameters aside.</param>
    /// <param name="segment">Emits the segment; called twice.</param>
    /// <param name="ownMemory">Whether the second copy shares memory with no other (<see cref="GraphBuilder.OwnMemory"/>): less of it, and a longer
    /// start.</param>
    /// <remarks>
    /// The second copy starts from Reshape(input, Shape(gradient of the output)), which moves no data but cannot run before the
    /// gradient is there: without it ONNX Runtime would run the copy together with the forward pass and save nothing.
    /// </remarks>
    public Value Checkpoint(Value input, Func<Tape, Value, Value> segment, bool ownMemory = false)
    {
        Tape probe = new(Graph, _root);
        if (Needs(input))
        {
            probe._needed.Add(input);
        }

        Value output = segment(probe, input);
        if (!probe.Needs(output))
        {
            return output;
        }

        _needed.Add(output);
        _records.Add(([output], gradients =>
        {
            Value gradient = gradients[0]!;
            Tape again = new(Graph, _root);
            using IDisposable scope = Graph.Scope("again");
            using IDisposable? memory = ownMemory ? Graph.OwnMemory() : null;
            Value restored = Graph.Reshape(input, Graph.Shape(gradient), input.Shape);
            if (Needs(input))
            {
                again._needed.Add(restored);
            }

            again.Backward(segment(again, restored), gradient);
            if (again._gradients.TryGetValue(restored, out Value? inner))
            {
                AddGradient(input, () => inner);
            }
        }
        ));
        return output;
    }

    /// <summary>Emits the backward pass of a scalar loss; the operator that made it takes the gradient of the loss to be one.</summary>
    /// <returns>Each trainable tensor with its gradient, in order of declaration; a tensor that the loss does not depend on is missing.</returns>
    public IReadOnlyList<(Value Parameter, Value Gradient)> Backward(Value loss)
    {
        Backward(loss, Graph.Float(1f));
        List<(Value, Value)> result = [];
        foreach ((Value parameter, List<Value> parts) in _parameterGradients.Where(entry => entry.Value.Count > 0))
        {
            if (parts.Count == 1)
            {
                result.Add((parameter, parts[0]));
                continue;
            }

            // A tied weight: its parts come from both ends of the backward pass, so the sum must stand after all of them.
            using (Graph.AtVeryEnd())
            using (Graph.InFloat32())
            {
                result.Add((parameter, parts.Aggregate((sum, part) => Graph.Add(sum, part))));
            }
        }

        return result;
    }

    private void Backward(Value output, Value gradient)
    {
        if (!_needed.Contains(output))
        {
            return;
        }

        _gradients[output] = gradient;
        for (int i = _records.Count - 1; i >= 0; i--)
        {
            (Value[] outputs, Action<Value?[]> backward) = _records[i];
            Value?[] arrived = [.. outputs.Select(_gradients.GetValueOrDefault)];
            if (arrived.Any(value => value is not null))
            {
                backward(arrived);
            }
        }
    }
}
