namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Gated activation (Shazeer 2020, arXiv:2002.05202): y = silu(gate)∘up, silu(z) = z·σ(z).
/// dup = dy∘silu(gate);  dgate = dy∘up∘σ(1 + gate(1 − σ)) = dy∘(y + σ∘(up − y)), since gate·σ·up = y.
/// </summary>
public static class SwiGlu
{
    /// <summary>Emits the activation; the backward pass recomputes silu(gate), so that only gate and up are kept.</summary>
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
            Value sigmoid = g.Sigmoid(gate); // [rows, n]
            Value silu = g.Mul(gate, sigmoid); // [rows, n]
            tape.AddGradient(up, () => g.Mul(dy, silu)); // [rows, n]
            Value again = g.Mul(silu, up); // y, not kept from the forward pass
            tape.AddGradient(gate, () => g.Mul(dy, g.Add(again, g.Mul(sigmoid, g.Sub(up, again))))); // [rows, n]
        });
    }
}
