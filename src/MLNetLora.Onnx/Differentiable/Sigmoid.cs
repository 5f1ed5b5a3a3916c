namespace MLNetLora.Onnx.Differentiable;

/// <summary>y = σ(x) = 1 / (1 + e⁻ˣ). dx = dy∘y∘(1 − y).</summary>
internal static class Sigmoid
{
    /// <summary>Emits the function.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">Any shape.</param>
    /// <returns>The shape of x.</returns>
    public static Value Apply(Tape tape, Value x)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Sigmoid(x);
        return tape.Record(y, [x], dy => tape.AddGradient(x, () =>
        {
            Value slope = g.Mul(dy, y);
            return g.Sub(slope, g.Mul(slope, y));
        }));
    }
}
