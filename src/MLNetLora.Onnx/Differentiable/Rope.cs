namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864), half-split layout: each pair (xᵢ, xᵢ₊d/₂) is turned by its position's angle.
/// The backward pass turns the other way: the same operator with −sin. Tables that carry a factor (YaRN's attention factor) keep it.
/// </summary>
internal static class Rope
{
    /// <summary>Emits the rotation.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[batch, heads, sequence, d].</param>
    /// <param name="positions">[batch, sequence].</param>
    /// <param name="cos">[positions, d/2].</param>
    /// <param name="sin">[positions, d/2].</param>
    /// <returns>[batch, heads, sequence, d].</returns>
    public static Value Apply(Tape tape, Value x, Value positions, Value cos, Value sin)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.RotaryEmbedding(x, positions, cos, sin); // [batch, heads, sequence, d]
        return tape.Record(y, [x], dy => tape.AddGradient(x, () => g.RotaryEmbedding(dy, positions, cos, g.Neg(sin)))); // [batch, heads, sequence, d]
    }
}
