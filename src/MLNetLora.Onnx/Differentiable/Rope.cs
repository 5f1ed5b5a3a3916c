namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864), half-split layout: each pair (xᵢ, xᵢ₊d/₂) is turned by its position's angle.
/// The backward pass turns the other way: the same operator with −sin. Tables that carry a factor (YaRN's attention factor) keep it.
/// Where the tables are narrower than d/2, only the first dimensions of a head are turned, among themselves; the others pass.
/// </summary>
internal static class Rope
{
    /// <summary>Emits the rotation.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[batch, heads, sequence, d].</param>
    /// <param name="positions">[batch, sequence].</param>
    /// <param name="cos">[positions, d/2], or less than d/2 columns.</param>
    /// <param name="sin">The shape of cos.</param>
    /// <returns>[batch, heads, sequence, d].</returns>
    public static Value Apply(Tape tape, Value x, Value positions, Value cos, Value sin)
    {
        GraphBuilder g = tape.Graph;
        int part = 2 * cos.Shape[1].Size < x.Shape[3].Size ? (int)x.Shape[1].Size : 0;
        Value y = g.RotaryEmbedding(x, positions, cos, sin, part); // [batch, heads, sequence, d]
        return tape.Record(y, [x], dy => tape.AddGradient(x, () => g.RotaryEmbedding(dy, positions, cos, g.Neg(sin), part))); // [batch, heads, sequence, d]
    }
}
