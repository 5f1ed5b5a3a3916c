namespace MLNetLora.Onnx;

/// <summary>One matrix of each expert of a layer, frozen, side by side in the memory of a device.</summary>
/// <param name="stack">[experts, out, in], float32 or 16 bits.</param>
internal sealed class ExpertStack(Value stack) : ExpertWeight((int)stack.Shape[0].Size, stack.Shape[1].Size, stack.Shape[2].Size)
{
    /// <inheritdoc/>
    public override Value Read(GraphBuilder graph, Value expert) => graph.Reshape(Of(graph, expert), [Rows, Columns], [Rows, Columns]);

    /// <inheritdoc/>
    public override Value All(GraphBuilder graph) => graph.Cast(stack, ElementType.Float32);

    /// <inheritdoc/>
    public override Value Of(GraphBuilder graph, Value experts) => graph.Cast(graph.Gather(stack, experts), ElementType.Float32);
}
