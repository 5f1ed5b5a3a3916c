namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// The router of a mixture of experts (Shazeer et al. 2017, arXiv:1701.06538; the softmax before the choice as in Fedus et al. 2021, arXiv:2101.03961):
/// P = softmax(logits), w = the k largest of each row, divided by their sum where they are normalized (norm_topk_prob).
/// With d the gradient of w and s the sum:  dp = d, or (d − Σ d∘w) / s;  dlogits = P∘(dP − Σ dp∘p), dP being dp in the places chosen and zero elsewhere.
/// The choice itself has no gradient.
/// </summary>
internal static class Routing
{
    /// <summary>Emits the choice.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="logits">[rows, experts].</param>
    /// <param name="k">Experts of a row.</param>
    /// <param name="normalize">Whether the weights of a row sum up to one.</param>
    /// <returns>The weights, [rows, k], and whose they are, 64-bit, [rows, k].</returns>
    public static (Value Weights, Value Experts) Apply(Tape tape, Value logits, int k, bool normalize)
    {
        GraphBuilder g = tape.Graph;
        using IDisposable precise = g.InFloat32();
        Value probabilities = g.Softmax(logits); // [rows, experts]
        (Value top, Value experts) = g.TopK(probabilities, k); // [rows, k] each
        Value? scale = normalize ? g.Reciprocal(g.ReduceSum(top, [-1], keepAxes: true)) : null; // [rows, 1]
        Value weights = scale is null ? top : g.Mul(top, scale); // [rows, k]
        tape.Record(weights, [logits], d => tape.AddGradient(logits, () =>
        {
            using IDisposable preciseBack = g.InFloat32();
            Value dp = scale is null ? d : g.Mul(g.Sub(d, g.ReduceSum(g.Mul(d, weights), [-1], keepAxes: true)), scale); // [rows, k]
            Value mean = g.ReduceSum(g.Mul(dp, top), [-1], keepAxes: true); // [rows, 1]
            Value chosen = g.ScatterLast(g.Zeros(g.Shape(logits), logits.Shape), experts, dp); // [rows, experts]
            return g.Mul(probabilities, g.Sub(chosen, mean)); // [rows, experts]
        }));
        return (weights, experts);
    }
}
