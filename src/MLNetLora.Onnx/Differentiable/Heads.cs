namespace MLNetLora.Onnx.Differentiable;

/// <summary>Moves between the layout of the linear layers, one row per token, and that of attention, one matrix per head. Pure data movement: the
/// backward pass of each is the other.</summary>
internal static class Heads
{
    /// <summary>[batch·sequence, heads·d] → [batch, sequence, heads, d].</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[batch·sequence, heads·d].</param>
    /// <param name="sizes">Run-time vector (batch, sequence, heads, d).</param>
    /// <param name="shape">(batch, sequence, heads, d) as dimensions.</param>
    public static Value Split(Tape tape, Value x, Value sizes, IReadOnlyList<Dimension> shape)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Reshape(x, sizes, shape); // [batch, sequence, heads, d]
        return tape.Record(y, [x], dy => tape.AddGradient(x, () => g.Reshape(dy, [-1, x.Shape[1].Size], x.Shape))); // [batch·sequence, heads·d]
    }

    /// <summary>[batch, sequence, heads, d] → [batch, heads, sequence, d], or back.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">Four axes.</param>
    /// <returns>The middle axes exchanged.</returns>
    public static Value Swap(Tape tape, Value x)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Transpose(x, 0, 2, 1, 3);
        return tape.Record(y, [x], dy => tape.AddGradient(x, () => g.Transpose(dy, 0, 2, 1, 3)));
    }

    /// <summary>[batch, sequence, heads, d] → [batch·sequence, heads·d].</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[batch, sequence, heads, d].</param>
    /// <param name="rows">Name of batch·sequence.</param>
    public static Value Merge(Tape tape, Value x, Dimension rows)
    {
        GraphBuilder g = tape.Graph;
        long width = x.Shape[2].Size * x.Shape[3].Size;
        Value y = g.Reshape(x, [-1, width], [rows, width]); // [batch·sequence, heads·d]
        return tape.Record(y, [x], dy => tape.AddGradient(x, () => g.Reshape(dy, g.Shape(x), x.Shape))); // [batch, sequence, heads, d]
    }
}
