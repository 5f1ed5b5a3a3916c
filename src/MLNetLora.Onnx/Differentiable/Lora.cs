namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Low-rank adaptation of a linear layer (Hu et al. 2021, arXiv:2106.09685), as PEFT computes it:
/// y = x Wᵀ + b + s · c (m∘x) Aᵀ Bᵀ, with s the scaling, m a dropout mask of zeros and ones and c = 1/(1−p).
/// With h = c (m∘x) Aᵀ and dh = s c · dy B:  dB = s · dyᵀ h,  dA = dhᵀ (m∘x),  dx = dy W + m∘(dh A).
/// </summary>
internal static class Lora
{
    /// <summary>Emits a linear layer with its adapter.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, in].</param>
    /// <param name="weight">[out, in], frozen or trainable.</param>
    /// <param name="bias">[out], or null.</param>
    /// <param name="a">[r, in].</param>
    /// <param name="b">[out, r].</param>
    /// <param name="scaling">s: alpha / r, or alpha / √r with rank stabilisation.</param>
    /// <param name="mask">The mask; null without dropout.</param>
    /// <param name="keptScale">c: 1 / (1 − p), 1 without dropout.</param>
    /// <returns>[rows, out].</returns>
    public static Value Apply(
        Tape tape,
        Value x,
        Weight weight,
        Weight? bias,
        Weight a,
        Weight b,
        float scaling,
        DropoutMask? mask = null,
        float keptScale = 1f)
    {
        GraphBuilder g = tape.Graph;
        Value dropped = Drop(g, x, mask?.Numbers(g, x.Shape[1])); // [rows, in]
        Value h = g.Gemm(dropped, a.Read(g), transB: true, alpha: keptScale); // [rows, in] [r, in]ᵀ -> [rows, r]
        Value plain = weight.Product(g, x, bias); // [rows, out]
        Value y = g.Gemm(h, b.Read(g), plain, transB: true, alpha: scaling); // [rows, r] [out, r]ᵀ -> [rows, out]
        return tape.Record(y, bias is null ? [x, weight.Source, a.Source, b.Source] : [x, weight.Source, bias.Source, a.Source, b.Source], dy =>
        {
            Value? kept = mask?.Numbers(g, x.Shape[1]); // [rows, in]; made again rather than kept from the forward pass
            Value dh = g.Gemm(dy, b.Read(g), alpha: scaling * keptScale); // [rows, out] [out, r] -> [rows, r]
            tape.AddGradient(x, sum =>
            {
                Value dense = weight.InputGradient(g, dy, sum); // [rows, out] [out, in] -> [rows, in]
                return kept is null
                    ? g.Gemm(dh, a.Read(g), dense) // [rows, r] [r, in] -> [rows, in]
                    : g.Add(dense, Drop(g, g.Gemm(dh, a.Read(g)), kept)); // [rows, in]
            });

            // B's group is made before A's, so A stands before B in the file and both are freed together.
            tape.AddParameterGradient(b.Source, () => g.Gemm(dy, h, transA: true, alpha: scaling)); // [rows, out]ᵀ [rows, r] -> [out, r]
            tape.AddParameterGradient(a.Source, () => g.Gemm(dh, Drop(g, x, kept), transA: true)); // [rows, r]ᵀ [rows, in] -> [r, in]
            tape.AddParameterGradient(weight.Source, () => g.Gemm(dy, x, transA: true)); // [out, in]
            if (bias is not null)
            {
                tape.AddParameterGradient(bias.Source, () => g.ReduceSum(dy, [0], keepAxes: false)); // [out]
            }
        });
    }

    /// <summary>m∘x.</summary>
    private static Value Drop(GraphBuilder g, Value x, Value? kept) => kept is null ? x : g.Mul(x, kept); // [rows, in]
}
