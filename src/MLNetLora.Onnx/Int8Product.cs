namespace MLNetLora.Onnx;

/// <summary>
/// Products with a frozen weight in 8-bit integers (SwitchBack, Wortsman et al. 2023, arXiv:2304.13013; torchao calls it int8 mixed-precision training): each row of x is rounded by its largest
/// magnitude, each column of the weight by its own, sums are exact in 32-bit integers. y = s_row · s_column · Σ q_x q_w.
/// A row with one number far larger than the others would lose the small ones; going forward the inputs that are always large are therefore divided by a factor that their weights
/// were multiplied with (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438).
/// </summary>
public static class Int8Product
{
    private const float Steps = 127; // on both sides of the zero point 128
    private const float Smallest = 1e-30f; // scale of a row of zeros

    /// <summary>x Wᵀ + bias.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="x">[rows, in]; layers with the same x share its rounding.</param>
    /// <param name="weight">The weight.</param>
    /// <param name="bias">[out], or null.</param>
    /// <returns>[rows, out].</returns>
    public static Value Forward(GraphBuilder g, Value x, Int8Weight weight, Value? bias)
    {
        (Value rows, Value scales) = g.Once(x, () => Round(g, g.Mul(x, weight.InverseSmoothing))); // [rows, in] unsigned 8-bit, [rows, 1]
        Value y = Product(g, rows, scales, weight.Forward, weight.ForwardScales); // [rows, in] [in, out] -> [rows, out]
        return bias is null ? y : g.Add(y, bias);
    }

    /// <summary>dy W + sum.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="dy">[rows, out].</param>
    /// <param name="weight">The weight.</param>
    /// <param name="sum">[rows, in], or null.</param>
    /// <returns>[rows, in].</returns>
    public static Value Backward(GraphBuilder g, Value dy, Int8Weight weight, Value? sum)
    {
        (Value rows, Value scales) = Round(g, dy); // [rows, out] unsigned 8-bit, [rows, 1]
        Value dx = Product(g, rows, scales, weight.Backward, weight.BackwardScales); // [rows, out] [out, in] -> [rows, in]
        return sum is null ? dx : g.Add(sum, dx);
    }

    private static Value Product(GraphBuilder g, Value rows, Value scales, Value columns, Value columnScales) =>
        g.Mul(g.MatMulIntegerToFloat(rows, columns, g.Float(1f), columnScales, g.UInt8((byte)(Steps + 1))), scales);

    private static (Value Rows, Value Scales) Round(GraphBuilder g, Value x)
    {
        Value largest = g.Max(g.ReduceMax(x, [-1], keepAxes: true), g.Neg(g.ReduceMin(x, [-1], keepAxes: true))); // [rows, 1]; without a copy of |x|
        Value scales = g.Max(g.Mul(largest, g.Float(1 / Steps)), g.Float(Smallest)); // [rows, 1]
        Value zeros = g.Expand(g.UInt8((byte)(Steps + 1)), g.Gather(g.Shape(x), g.Int64s(0)), [x.Shape[0]]); // [rows]
        return (g.QuantizeLinear(x, g.Reshape(scales, [-1], [x.Shape[0]]), zeros, axis: 0), scales);
    }
}
