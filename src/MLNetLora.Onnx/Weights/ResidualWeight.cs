namespace MLNetLora.Onnx;

/// <summary>A frozen weight that a product of two factors was taken out of, W − s·B A, without being written anywhere: what PiSSA (Meng et al. 2024,
/// arXiv:2404.02948) trains beside.</summary>
/// <param name="weight">W, [out, in], in any storage.</param>
/// <param name="a">A, [r, in].</param>
/// <param name="b">B, [out, r].</param>
/// <param name="scaling">s.</param>
internal sealed class ResidualWeight(Weight weight, Value a, Value b, float scaling) : Weight(weight.Source)
{
    /// <inheritdoc/>
    public override Value Read(GraphBuilder graph) => graph.Gemm(b, a, weight.Read(graph), alpha: -scaling); // [out, r] [r, in] -> [out, in]

    /// <inheritdoc/>
    public override Value Product(GraphBuilder graph, Value x, Weight? bias = null)
    {
        Value h = graph.Gemm(x, a, transB: true); // [rows, in] [r, in]ᵀ -> [rows, r]
        return graph.Gemm(h, b, weight.Product(graph, x, bias), transB: true, alpha: -scaling); // [rows, r] [out, r]ᵀ -> [rows, out]
    }

    /// <inheritdoc/>
    public override Value InputGradient(GraphBuilder graph, Value dy, Value? sum)
    {
        Value dh = graph.Gemm(dy, b); // [rows, out] [out, r] -> [rows, r]
        return graph.Gemm(dh, a, weight.InputGradient(graph, dy, sum), alpha: -scaling); // [rows, r] [r, in] -> [rows, in]
    }
}
