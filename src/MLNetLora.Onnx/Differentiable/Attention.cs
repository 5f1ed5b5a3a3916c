namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): P = softmax(α q kᵀ + bias), y = P v, α = 1/√d.
/// The g query heads that share a key head are laid out as one matrix of g·sequence rows, so keys are never repeated and
/// the sums over the group in dk and dv are part of the matrix products.
/// dv = Pᵀ dy,  dP = dy vᵀ,  dS = P∘(dP − Σ dy∘y),  dq = α dS k,  dk = α dSᵀ q.
/// </summary>
public static class Attention
{
    /// <summary>Emits attention.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="q">[batch, heads, sequence, d].</param>
    /// <param name="k">[batch, kv, sequence, d], kv dividing heads.</param>
    /// <param name="v">[batch, kv, sequence, d].</param>
    /// <param name="bias">[batch or 1, 1, sequence, sequence], 0 where a query sees a key and very negative elsewhere.</param>
    /// <returns>[batch, heads, sequence, d].</returns>
    public static Value Apply(Tape tape, Value q, Value k, Value v, Value bias)
    {
        GraphBuilder g = tape.Graph;
        (Dimension batch, Dimension heads, Dimension sequence, Dimension d) = (q.Shape[0], q.Shape[1], q.Shape[2], q.Shape[3]);
        Dimension kv = k.Shape[1];
        Dimension rows = heads == kv ? sequence : "group_rows"; // g·sequence
        float alpha = (float)(1 / Math.Sqrt(d.Size));

        Value grouped = Group(q); // [batch, kv, g·sequence, d]
        Value scores = g.MatMul(grouped, k, transB: true, alpha: alpha); // [batch, kv, g·sequence, sequence]
        scores = g.Reshape(scores, [0, heads.Size, -1, 0], [batch, heads, sequence, sequence]); // the bias is the same for all heads
        Value p = g.Softmax(g.Add(scores, bias)); // [batch, heads, sequence, sequence]
        p = g.Reshape(p, [0, kv.Size, -1, 0], [batch, kv, rows, sequence]); // [batch, kv, g·sequence, sequence]
        Value y = g.MatMul(p, v); // [batch, kv, g·sequence, d]
        Value result = Ungroup(y); // [batch, heads, sequence, d]
        return tape.Record(result, [q, k, v], dresult =>
        {
            Value dy = Group(dresult); // [batch, kv, g·sequence, d]
            tape.AddGradient(v, () => g.MatMul(p, dy, transA: true)); // [batch, kv, sequence, d]
            if (!tape.Needs(q) && !tape.Needs(k))
            {
                return;
            }

            Value dp = g.MatMul(dy, v, transB: true); // [batch, kv, g·sequence, sequence]
            Value mean = g.ReduceSum(g.Mul(dy, y), [-1], keepAxes: true); // [batch, kv, g·sequence, 1]
            Value ds = g.Mul(p, g.Sub(dp, mean)); // [batch, kv, g·sequence, sequence]
            tape.AddGradient(q, () => Ungroup(g.MatMul(ds, k, alpha: alpha))); // [batch, heads, sequence, d]
            tape.AddGradient(k, () => g.MatMul(ds, grouped, transA: true, alpha: alpha)); // [batch, kv, sequence, d]
        });

        Value Group(Value x) => heads == kv ? x : g.Reshape(x, [0, kv.Size, -1, d.Size], [batch, kv, rows, d]);
        Value Ungroup(Value x) => heads == kv ? x : g.Reshape(x, [0, heads.Size, -1, d.Size], [batch, heads, sequence, d]);
    }
}
