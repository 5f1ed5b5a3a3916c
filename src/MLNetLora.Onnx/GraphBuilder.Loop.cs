using MLNetLora.Onnx.Proto;

namespace MLNetLora.Onnx;

/// <summary>What one trip of a loop computes.</summary>
/// <param name="Joined">[rows of this trip, …] each: all trips' together are joined along the first axis, in order.</param>
/// <param name="Stacked">Of the same shape in every trip: they become the slices of a new first axis.</param>
internal sealed record LoopResult(IReadOnlyList<Value> Joined, IReadOnlyList<Value> Stacked);

/// <content>Loops. Their body is a graph of its own that may read any value made before it.</content>
internal sealed partial class GraphBuilder
{
    /// <summary>Runs a body for 0, 1, … trips − 1. Each operator of the body is one node of the file, however often it runs.</summary>
    /// <param name="trips">[], 64-bit; may be zero.</param>
    /// <param name="tripsName">What the number of trips is called.</param>
    /// <param name="rows">What the rows of all trips together are called.</param>
    /// <param name="body">Emits the body; given the number of the trip, [1], 64-bit.</param>
    /// <returns>[rows, …] for each joined result, then [trips, …] for each stacked one.</returns>
    /// <remarks>
    /// What the trips join goes through a sequence, which costs one copy: a tensor that every trip adds to would be copied whole in every trip. The sequence
    /// begins with a tensor without rows, so that no trips at all are no error.
    /// </remarks>
    public Value[] Loop(Value trips, Dimension tripsName, Dimension rows, Func<Value, LoopResult> body)
    {
        if (_inner is not null)
        {
            throw new InvalidOperationException("A loop cannot stand in another's body.");
        }

        GraphProto graph = new() { Name = Unique("body") };
        (Value trip, Value condition) = (new(Unique("trip"), ElementType.Int64, []), new(Unique("goes_on"), ElementType.Bool, []));
        graph.Input.Add(Describe(trip.Name, trip.Type, trip.Shape));
        graph.Input.Add(Describe(condition.Name, condition.Type, condition.Shape));
        List<NodeProto>? group = _group;
        (_group, _inner) = (null, graph);
        LoopResult result;
        List<ValueInfoProto> outputs = [];
        try
        {
            result = body(Reshape(trip, [1], [1]));
            Value next = Node("Identity", [condition], ElementType.Bool, []);
            graph.Output.Add(Describe(next.Name, next.Type, next.Shape));
            foreach (Value joined in result.Joined)
            {
                (string before, string after) = (Unique("sequence"), Unique("SequenceInsert"));
                NodeProto insert = MakeNode("SequenceInsert", [], "", []);
                insert.Input.AddRange([before, joined.Name]);
                insert.Output.Add(after);
                graph.Node.Add(insert);
                graph.Input.Add(DescribeSequence(before, joined));
                outputs.Add(DescribeSequence(after, joined));
            }

            outputs.AddRange(result.Stacked.Select(stacked => Describe(stacked.Name, stacked.Type, stacked.Shape)));
            graph.Output.AddRange(outputs);
            HashSet<string> declared = [.. graph.Output.Select(output => output.Name)];
            ValueInfoProto[] infos = [.. graph.ValueInfo.Where(info => !declared.Contains(info.Name))];
            graph.ValueInfo.Clear();
            graph.ValueInfo.AddRange(infos);
        }
        finally
        {
            (_group, _inner) = (group, null);
        }

        NodeProto loop = MakeNode("Loop", [trips, null], "", [("body", graph)]);
        foreach (Value joined in result.Joined)
        {
            Value none = Zeros(Int64s([0, .. joined.Shape.Skip(1).Select(size => size.Size)]), [0, .. joined.Shape.Skip(1)]);
            NodeProto start = MakeNode("SequenceConstruct", [none], "", []);
            start.Output.Add(Unique("SequenceConstruct"));
            Add(start);
            loop.Input.Add(start.Output[0]);
        }

        string[] sequences = [.. result.Joined.Select(_ => Unique("sequence"))];
        Value[] stacks = [.. result.Stacked.Select(item => new Value(Unique("Loop"), item.Type, [tripsName, .. item.Shape]))];
        loop.Output.AddRange([.. sequences, .. stacks.Select(stack => stack.Name)]);
        Add(loop, stacks);
        Value[] joins = [.. result.Joined.Select((joined, i) =>
        {
            NodeProto join = MakeNode("ConcatFromSequence", [], "", [("axis", 0L)]);
            join.Input.Add(sequences[i]);
            Value whole = new(Unique("ConcatFromSequence"), joined.Type, [rows, .. joined.Shape.Skip(1)]);
            join.Output.Add(whole.Name);
            Add(join, whole);
            return whole;
        })];
        return [.. joins, .. stacks];
    }

    /// <summary>A loop without the results that nobody asks for, and without what is computed for them alone; any other node as it is.</summary>
    private static NodeProto WithoutUnused(NodeProto node, HashSet<string> needed)
    {
        const int Fixed = 2; // inputs before the sequences: trips and condition; in the body trip and condition
        if (node.OpType != "Loop" || node.Output.All(needed.Contains))
        {
            return node;
        }

        NodeProto loop = node.Clone();
        GraphProto body = loop.Attribute[0].G;
        int sequences = loop.Input.Count - Fixed;
        for (int i = loop.Output.Count - 1; i >= 0; i--)
        {
            if (needed.Contains(loop.Output[i]))
            {
                continue;
            }

            loop.Output.RemoveAt(i);
            body.Output.RemoveAt(i + 1); // behind the condition
            if (i < sequences)
            {
                loop.Input.RemoveAt(i + Fixed);
                body.Input.RemoveAt(i + Fixed);
            }
        }

        HashSet<string> used = Needed(body.Node, body.Output.Select(output => output.Name));
        NodeProto[] nodes = [.. body.Node.Where(inner => inner.Output.Any(used.Contains))];
        ValueInfoProto[] infos = [.. body.ValueInfo.Where(info => used.Contains(info.Name))];
        body.Node.Clear();
        body.Node.AddRange(nodes);
        body.ValueInfo.Clear();
        body.ValueInfo.AddRange(infos);
        return loop;
    }

    private ValueInfoProto DescribeSequence(string name, Value element)
    {
        // The elements differ in their rows.
        TypeProto tensor = Describe(name, element.Type, element.Shape).Type;
        tensor.TensorType.Shape.Dim[0] = new TensorShapeProto.Types.Dimension();
        return new ValueInfoProto { Name = name, Type = new TypeProto { SequenceType = new TypeProto.Types.Sequence { ElemType = tensor } } };
    }
}
