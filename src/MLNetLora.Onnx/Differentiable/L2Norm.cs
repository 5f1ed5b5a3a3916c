namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Every head of a row made a unit vector and scaled: y = c·x / √(Σx² + ε). It is <see cref="RmsNorm"/> with the same factor for all: the mean of d squares
/// is their sum over d, so x / √(Σx² + ε) = x / √(mean(x²) + ε/d) / √d.
/// </summary>
internal static class L2Norm
{
    /// <summary>Emits the norm.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, d].</param>
    /// <param name="epsilon">ε, added to the sum of squares.</param>
    /// <param name="factor">c.</param>
    /// <returns>[rows, d].</returns>
    public static Value Apply(Tape tape, Value x, float epsilon, float factor = 1f)
    {
        int d = (int)x.Shape[^1].Size;
        float each = (float)(factor / Math.Sqrt(d));
        float[] factors = new float[d];
        Array.Fill(factors, each);
        string name = FormattableString.Invariant($"factors.{d}.{each:R}");
        Value weight = tape.Graph.Reshape(tape.Graph.Table(name, factors, d), [d], [d]); // [d]
        return RmsNorm.Apply(tape, x, new FloatWeight(weight), epsilon / d); // [rows, d]
    }
}
