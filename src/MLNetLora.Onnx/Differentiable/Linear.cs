namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// y = x Wᵀ + b, the weight as PyTorch stores it (rows are outputs).
/// dx = dy W, dW = dyᵀ x, db = Σ over rows of dy.
/// </summary>
internal static class Linear
{
    /// <summary>Emits the layer.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, in].</param>
    /// <param name="weight">[out, in].</param>
    /// <param name="bias">[out], or null.</param>
    /// <returns>[rows, out].</returns>
    public static Value Apply(Tape tape, Value x, Weight weight, Weight? bias = null)
    {
        GraphBuilder g = tape.Graph;
        Value y = weight.Product(g, x, bias); // [rows, out]
        return tape.Record(y, bias is null ? [x, weight.Source] : [x, weight.Source, bias.Source], dy =>
        {
            tape.AddGradient(x, sum => weight.InputGradient(g, dy, sum)); // [rows, out] [out, in] -> [rows, in]
            tape.AddParameterGradient(weight.Source, () => g.Gemm(dy, x, transA: true)); // [rows, out]ᵀ [rows, in] -> [out, in]
            if (bias is not null)
            {
                tape.AddParameterGradient(bias.Source, () => g.ReduceSum(dy, [0], keepAxes: false)); // [out]
            }
        });
    }
}
