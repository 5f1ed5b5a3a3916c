namespace MLNetLora.Onnx.Differentiable;

/// <summary>The same numbers in the same order under another shape. dx = dy in the shape of x.</summary>
internal static class View
{
    /// <summary>Emits the change of shape.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">Any shape.</param>
    /// <param name="sizes">The new shape, one axis of which may be −1.</param>
    /// <param name="shape">What it is called.</param>
    /// <returns>The new shape.</returns>
    public static Value Apply(Tape tape, Value x, long[] sizes, IReadOnlyList<Dimension> shape)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Reshape(x, sizes, shape);
        return tape.Record(y, [x], dy => tape.AddGradient(x, () => g.Reshape(dy, g.Shape(x), x.Shape)));
    }
}
