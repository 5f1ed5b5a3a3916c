namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Root mean square normalization (Zhang and Sennrich 2019, arXiv:1910.07467): y = w∘x·r with r = 1/√(mean(x²) + ε).
/// With u = dy∘w:  dx = r·(u − x·r²·mean(u∘x)),  dw = Σ over rows of dy∘x·r. (r³ is beyond float16 where x is small.)
/// </summary>
internal static class RmsNorm
{
    /// <summary>Emits the norm over the last axis.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[…, n].</param>
    /// <param name="weight">[n].</param>
    /// <param name="epsilon">ε, added to the mean square.</param>
    /// <returns>[…, n].</returns>
    public static Value Apply(Tape tape, Value x, Weight weight, float epsilon)
    {
        GraphBuilder g = tape.Graph;
        using IDisposable? precise = Precise();
        (Value y, Value r) = g.RmsNormalization(x, weight.Read(g), epsilon); // […, n], […, 1]
        return tape.Record(y, [x, weight.Source], dy =>
        {
            using IDisposable? preciseBack = Precise();
            tape.AddGradient(x, sum =>
            {
                Value w = weight.Read(g); // [n]
                Value dx = g.FusesKernels ? g.RmsNormGrad(dy, x, w, r) : OfX(g, dy, x, w, r); // […, n]
                return sum is null ? dx : g.Add(sum, dx);
            });
            long[] rows = [.. Enumerable.Range(0, x.Shape.Count - 1).Select(axis => (long)axis)];
            tape.AddParameterGradient(weight.Source, () => g.ReduceSum(g.Mul(g.Mul(dy, x), r), rows, keepAxes: false)); // [n]
        });

        // One and a small number in 16 bits is one: such factors stay in float32, as in transformers.
        IDisposable? Precise() => weight is OnePlusWeight ? g.InFloat32() : null;
    }

    /// <summary>dx, […, n].</summary>
    internal static Value OfX(GraphBuilder g, Value dy, Value x, Value w, Value r)
    {
        Value u = g.Mul(dy, w); // […, n]
        Value mean = g.ReduceMean(g.Mul(u, x), [-1], keepAxes: true); // […, 1]
        Value along; // […, 1]
        using (g.InFloat32())
        {
            along = g.Mul(g.Mul(r, r), mean);
        }

        return g.Mul(g.Sub(u, g.Mul(x, along)), r); // […, n]
    }
}
