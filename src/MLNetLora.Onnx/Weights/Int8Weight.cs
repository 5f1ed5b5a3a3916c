namespace MLNetLora.Onnx;

/// <summary>
/// A frozen weight [out, in] quantized twice to signed 8-bit integers, for products forward and backward (SwitchBack, Wortsman et al. 2023,
/// arXiv:2304.13013; torchao calls it int8 mixed-precision training): each row of x is quantized by its absmax, each column of the right side by its
/// own, and those columns are outputs going forward and inputs going back. Sums are exact in 32-bit integers: y = s_row · s_column · Σ q_x q_w.
/// A row with one number far larger than the others would lose the small ones; going forward the inputs that are always large are therefore divided
/// by a factor that their weights were multiplied with (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438).
/// </summary>
/// <param name="forward">(W·smoothing)ᵀ quantized, [in, out].</param>
/// <param name="forwardScales">[out], float32.</param>
/// <param name="inverseSmoothing">[in], float32: what x is multiplied by before it is quantized; the same value for layers with the same x.</param>
/// <param name="backward">W quantized, [out, in].</param>
/// <param name="backwardScales">[in], float32.</param>
internal sealed class Int8Weight(Value forward, Value forwardScales, Value inverseSmoothing, Value backward, Value backwardScales) : Weight(forward)
{
    private const float Steps = 127; // on both sides of the zero point 128
    private const float SmallestScale = 1e-30f; // of a row of zeros

    /// <summary>Makes the weight as it was before; null where nobody will read it.</summary>
    public Func<Weight>? Original { get; init; }

    /// <summary>The weight before it was quantized: what DoRA takes the norms of.</summary>
    public override Value Read(GraphBuilder graph) => Original is null ? base.Read(graph) : Original().Read(graph);

    /// <summary>x Wᵀ + bias: [rows, in] → [rows, out]. Layers with the same x share its quantization.</summary>
    public override Value Product(GraphBuilder graph, Value x, Weight? bias = null)
    {
        Value? b = bias?.Read(graph); // [out]
        (Value rows, Value scales) = graph.Once(x, () => Quantize(graph, graph.Mul(x, inverseSmoothing))); // [rows, in] unsigned 8-bit, [rows, 1]
        Value y = Product(graph, rows, scales, Source, forwardScales); // [rows, in] [in, out] -> [rows, out]
        return b is null ? y : graph.Add(y, b);
    }

    /// <inheritdoc/>
    public override Value InputGradient(GraphBuilder graph, Value dy, Value? sum)
    {
        (Value rows, Value scales) = Quantize(graph, dy); // [rows, out] unsigned 8-bit, [rows, 1]
        Value dx = Product(graph, rows, scales, backward, backwardScales); // [rows, out] [out, in] -> [rows, in]
        return sum is null ? dx : graph.Add(sum, dx);
    }

    private static Value Product(GraphBuilder g, Value rows, Value scales, Value columns, Value columnScales) =>
        g.Mul(g.MatMulIntegerToFloat(rows, columns, g.Float(1f), columnScales, g.UInt8((byte)(Steps + 1))), scales);

    private static (Value Rows, Value Scales) Quantize(GraphBuilder g, Value x)
    {
        Value absmax = g.Max(g.ReduceMax(x, [-1], keepAxes: true), g.Neg(g.ReduceMin(x, [-1], keepAxes: true))); // [rows, 1]; without a copy of |x|
        Value scales = g.Max(g.Mul(absmax, g.Float(1 / Steps)), g.Float(SmallestScale)); // [rows, 1]
        Value zeros = g.Expand(g.UInt8((byte)(Steps + 1)), g.Gather(g.Shape(x), g.Int64s(0)), [x.Shape[0]]); // [rows]
        return (g.QuantizeLinear(x, g.Reshape(scales, [-1], [x.Shape[0]]), zeros, axis: 0), scales);
    }
}
