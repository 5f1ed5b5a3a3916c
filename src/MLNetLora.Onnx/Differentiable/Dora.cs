namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Weight-decomposed low-rank adaptation of a linear layer (Liu et al. 2024, arXiv:2402.09353), as PEFT computes it: with V = W + s·B A and g = m / ‖V‖, the
/// norm taken of each row of V and held constant in the backward pass (section 4.3 of the paper),
/// y = x Wᵀ + b − x̃ Wᵀ + g∘z, z = x̃ Wᵀ + s·h Bᵀ, h = x̃ Aᵀ, with x̃ = c·n∘x where there is dropout, n a mask of zeros and ones and c = 1/(1−p).
/// Without dropout x̃ = x, and y = g∘z + b.
/// With dz = g∘dy and dh = s·dz B:  dm = Σ over rows of dy∘z / ‖V‖,  dB = s·dzᵀ h,  dA = dhᵀ x̃,
/// dx = dy W + c·n∘((dz − dy) W + dh A), without dropout dx = dz W + dh A.
/// </summary>
internal static class Dora
{
    /// <summary>Emits a linear layer with its adapter.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, in].</param>
    /// <param name="weight">W, [out, in], frozen.</param>
    /// <param name="bias">[out], or null.</param>
    /// <param name="a">A, [r, in].</param>
    /// <param name="b">B, [out, r].</param>
    /// <param name="magnitude">m, [out].</param>
    /// <param name="norm">‖V‖, [out]: see <see cref="Norm"/>.</param>
    /// <param name="scaling">s: alpha / r, or alpha / √r with rank stabilisation.</param>
    /// <param name="mask">The mask; null without dropout.</param>
    /// <param name="keptScale">c: 1 / (1 − p), 1 without dropout.</param>
    /// <returns>[rows, out].</returns>
    public static Value Apply(Tape tape, Value x, Weight weight, Weight? bias, Weight a, Weight b, Weight magnitude, Value norm, float scaling,
        DropoutMask? mask = null, float keptScale = 1f)
    {
        GraphBuilder g = tape.Graph;
        Value scale = g.Div(magnitude.Read(g), norm); // [out]
        Value dropped = Drop(x); // [rows, in]
        Value h = g.Gemm(dropped, a.Read(g), transB: true); // [rows, in] [r, in]ᵀ -> [rows, r]
        Value plain = weight.Product(g, dropped); // [rows, out]
        Value z = g.Gemm(h, b.Read(g), plain, transB: true, alpha: scaling); // [rows, r] [out, r]ᵀ -> [rows, out]
        Value y = g.Mul(z, scale); // [rows, out]
        y = mask is null
            ? (bias is null ? y : g.Add(y, bias.Read(g)))
            : g.Add(g.Sub(weight.Product(g, x, bias), plain), y); // [rows, out]
        Value[] inputs = [x, a.Source, b.Source, magnitude.Source, .. bias is null ? Array.Empty<Value>() : [bias.Source]];
        return tape.Record(y, inputs, dy =>
        {
            Value dz = g.Mul(dy, scale); // [rows, out]
            Value dh = g.Gemm(dz, b.Read(g), alpha: scaling); // [rows, out] [out, r] -> [rows, r]
            tape.AddGradient(x, sum => mask is null
                ? g.Gemm(dh, a.Read(g), weight.InputGradient(g, dz, sum)) // [rows, r] [r, in] + [rows, out] [out, in] -> [rows, in]
                : g.Add(weight.InputGradient(g, dy, sum), Drop(g.Gemm(dh, a.Read(g), weight.InputGradient(g, g.Sub(dz, dy), null))))); // [rows, in]
            tape.AddParameterGradient(magnitude.Source, () => g.Div(g.ReduceSum(g.Mul(dy, z), [0], keepAxes: false), norm)); // [out]
            tape.AddParameterGradient(b.Source, () => g.Gemm(dz, h, transA: true, alpha: scaling)); // [rows, out]ᵀ [rows, r] -> [out, r]
            tape.AddParameterGradient(a.Source, () => g.Gemm(dh, Drop(x), transA: true)); // [rows, r]ᵀ [rows, in] -> [r, in]
            if (bias is not null)
            {
                tape.AddParameterGradient(bias.Source, () => g.ReduceSum(dy, [0], keepAxes: false)); // [out]
            }
        });

        // c·n∘x, made again in the backward pass rather than kept: [rows, in].
        Value Drop(Value value)
        {
            if (mask is null)
            {
                return value;
            }

            Value kept = g.Mul(value, mask.Numbers(g, value.Shape[1])); // [rows, in]
            using IDisposable precise = g.InFloat32(); // c in 16 bits would be off by the same for all
            return g.Mul(kept, g.Float(keptScale)); // [rows, in]
        }
    }

    /// <summary>
    /// ‖V‖ by row: [out]. V itself is not made: ‖w + s·b A‖² = ‖w‖² + 2s·b·(A w) + s²·b·(A Aᵀ b), with w and b the rows of W and B.
    /// </summary>
    /// <param name="g">The graph.</param>
    /// <param name="weight">W, [out, in].</param>
    /// <param name="a">A, [r, in].</param>
    /// <param name="b">B, [out, r].</param>
    /// <param name="scaling">s.</param>
    public static Value Norm(GraphBuilder g, Weight weight, Weight a, Weight b, float scaling)
    {
        using IDisposable head = g.AtHead();
        Value w = weight.Read(g); // [out, in]
        Value outer = g.Gemm(a.Read(g), a.Read(g), transB: true, alpha: scaling); // [r, in] [r, in]ᵀ -> [r, r]
        Value mixed = g.Gemm(w, a.Read(g), transB: true, alpha: 2); // [out, in] [r, in]ᵀ -> [out, r]
        Value all = g.Gemm(b.Read(g), outer, mixed); // [out, r] [r, r] -> [out, r]
        using IDisposable precise = g.InFloat32(); // small squares are zeros in float16
        Value change = g.ReduceSum(g.Mul(b.Read(g), all), [1], keepAxes: false); // [out]
        return g.Sqrt(g.Add(g.SumOfSquaresOver(w, 1), g.Mul(change, g.Float(scaling)))); // [out]
    }
}
