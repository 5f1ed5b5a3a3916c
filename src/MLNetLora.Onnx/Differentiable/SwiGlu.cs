namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Gated activation (Shazeer 2020, arXiv:2002.05202): y = silu(gate)∘up, silu(z) = z·σ(z).
/// With t = dy∘σ(gate):  dup = t∘gate;  dgate = t∘up∘(1 + gate(1 − σ)), and gate(1 − σ) = gate·σ(−gate), which is one kernel.
/// </summary>
internal static class SwiGlu
{
    /// <summary>Emits the activation; the backward pass computes σ again, so that only gate and up are kept.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="gate">[rows, n].</param>
    /// <param name="up">[rows, n].</param>
    /// <returns>[rows, n].</returns>
    public static Value Apply(Tape tape, Value gate, Value up)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Mul(g.Silu(gate), up); // [rows, n]
        return tape.Record(y, [gate, up], dy =>
        {
            Value share = g.Mul(dy, g.Sigmoid(gate)); // dy∘σ, [rows, n]
            tape.AddGradient(up, () => g.Mul(share, gate)); // [rows, n]
            tape.AddGradient(gate, () =>
            {
                Value slope = g.Mul(share, up); // dy∘σ∘up, [rows, n]
                return g.Add(slope, g.Mul(slope, g.QuickGelu(gate, -1f))); // [rows, n]
            });
        });
    }
}
