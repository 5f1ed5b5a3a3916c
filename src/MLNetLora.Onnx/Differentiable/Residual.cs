namespace MLNetLora.Onnx.Differentiable;

/// <summary>y = a + b, the same shape on both sides. da = dy, db = dy.</summary>
internal static class Residual
{
    /// <summary>Emits the sum.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="a">[…].</param>
    /// <param name="b">The shape of a.</param>
    /// <returns>[…].</returns>
    public static Value Apply(Tape tape, Value a, Value b)
    {
        Value y = tape.Graph.Add(a, b); // […]
        return tape.Record(y, [a, b], dy =>
        {
            tape.AddGradient(a, () => dy); // […]
            tape.AddGradient(b, () => dy); // […]
        });
    }
}
