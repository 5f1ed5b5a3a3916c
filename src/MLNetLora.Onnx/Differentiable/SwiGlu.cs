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
        Value y = g.FusesKernels ? g.SwiGlu(gate, up) : Forward(g, gate, up); // [rows, n]
        return tape.Record(y, [gate, up], dy =>
        {
            if (g.FusesKernels)
            {
                (Value dgate, Value dup) = g.SwiGluGrad(dy, gate, up); // [rows, n]
                tape.AddGradient(up, () => dup);
                tape.AddGradient(gate, () => dgate);
                return;
            }

            Value share = Share(g, dy, gate); // [rows, n]
            tape.AddGradient(up, () => OfUp(g, share, gate));
            tape.AddGradient(gate, () => OfGate(g, share, gate, up));
        });
    }

    /// <summary>y, [rows, n].</summary>
    internal static Value Forward(GraphBuilder g, Value gate, Value up) => g.Mul(g.Silu(gate), up);

    /// <summary>dy∘σ, [rows, n].</summary>
    internal static Value Share(GraphBuilder g, Value dy, Value gate) => g.Mul(dy, g.Sigmoid(gate));

    /// <summary>dup, [rows, n].</summary>
    internal static Value OfUp(GraphBuilder g, Value share, Value gate) => g.Mul(share, gate);

    /// <summary>dgate, [rows, n].</summary>
    internal static Value OfGate(GraphBuilder g, Value share, Value gate, Value up)
    {
        Value slope = g.Mul(share, up); // dy∘σ∘up, [rows, n]
        return g.Add(slope, g.Mul(slope, g.QuickGelu(gate, -1f))); // [rows, n]
    }
}
