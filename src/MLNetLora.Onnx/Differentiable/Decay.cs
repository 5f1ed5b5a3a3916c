namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// How much a head forgets at a token, as a logarithm (Gu and Dao 2023, arXiv:2312.00752): g = −exp(A)·softplus(a + b), softplus(z) = ln(1 + eᶻ).
/// da = −exp(A)·σ(a + b)∘dg,  db = Σ over rows of da,  dA = Σ over rows of g∘dg.
/// </summary>
internal static class Decay
{
    /// <summary>Emits the decay.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="a">[rows, heads].</param>
    /// <param name="logRate">A, [heads].</param>
    /// <param name="bias">b, [heads].</param>
    /// <returns>[rows, heads], 0 at most.</returns>
    public static Value Apply(Tape tape, Value a, Weight logRate, Weight bias)
    {
        GraphBuilder g = tape.Graph;
        using IDisposable precise = g.InFloat32();
        Value rate = g.Neg(g.Exp(logRate.Read(g))); // [heads]
        Value y = g.Mul(g.Softplus(g.Add(a, bias.Read(g))), rate); // [rows, heads]
        return tape.Record(y, [a, logRate.Source, bias.Source], dy =>
        {
            using IDisposable preciseBack = g.InFloat32();
            Value da = g.Mul(g.Mul(dy, g.Sigmoid(g.Add(a, bias.Read(g)))), rate); // [rows, heads]
            tape.AddGradient(a, () => da);
            tape.AddParameterGradient(bias.Source, () => g.ReduceSum(da, [0], keepAxes: false)); // [heads]
            tape.AddParameterGradient(logRate.Source, () => g.ReduceSum(g.Mul(dy, y), [0], keepAxes: false)); // [heads]
        });
    }
}
