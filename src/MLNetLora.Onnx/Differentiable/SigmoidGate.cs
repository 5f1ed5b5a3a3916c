namespace MLNetLora.Onnx.Differentiable;

/// <summary>y = σ(gate)∘x, one gate for each row. dx = σ∘dy, dgate = σ(1 − σ) Σ over the row of dy∘x.</summary>
internal static class SigmoidGate
{
    /// <summary>Emits the gate.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="gate">[rows, 1].</param>
    /// <param name="x">[rows, n].</param>
    /// <returns>[rows, n].</returns>
    public static Value Apply(Tape tape, Value gate, Value x)
    {
        GraphBuilder g = tape.Graph;
        Value open = g.Sigmoid(gate); // [rows, 1]
        Value y = g.Mul(x, open); // [rows, n]
        return tape.Record(y, [gate, x], dy =>
        {
            tape.AddGradient(x, () => g.Mul(dy, open)); // [rows, n]
            tape.AddGradient(gate, () =>
            {
                Value sum = g.ReduceSum(g.Mul(dy, x), [-1], keepAxes: true); // [rows, 1]
                return g.Mul(sum, g.Mul(open, g.Sigmoid(g.Neg(gate)))); // [rows, 1]
            });
        });
    }
}
