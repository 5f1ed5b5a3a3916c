namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Attention's output let through by a gate (Qiu et al. 2025, arXiv:2505.06708): y = x∘σ(gate).
/// dx = dy∘σ;  dgate = dy∘x∘σ∘(1 − σ) = dx∘x∘σ(−gate).
/// </summary>
internal static class OutputGate
{
    /// <summary>Emits the gate; the backward pass computes σ again, so that only x and the gate are kept.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, n].</param>
    /// <param name="gate">[rows, n].</param>
    /// <returns>[rows, n].</returns>
    public static Value Apply(Tape tape, Value x, Value gate)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Mul(x, g.Sigmoid(gate)); // [rows, n]
        return tape.Record(y, [x, gate], dy =>
        {
            Value dx = g.Mul(dy, g.Sigmoid(gate)); // [rows, n]
            tape.AddGradient(x, () => dx);
            tape.AddGradient(gate, () => g.Mul(g.Mul(dx, x), g.Sigmoid(g.Neg(gate)))); // [rows, n]
        });
    }
}
