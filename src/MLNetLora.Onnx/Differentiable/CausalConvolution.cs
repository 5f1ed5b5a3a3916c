namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Every channel convolved along the sequence with a short kernel of its own, then SiLU: zₜ = Σⱼ wⱼ∘xₜ₋ⱼ, y = silu(z), j from 0 to K − 1 back, and none from
/// another packed row. The kernel is stored as PyTorch's Conv1d has it, the current token's factor last.
/// With dz = dy∘σ(z)∘(1 + z(1 − σ(z))):  dxₜ = Σⱼ wⱼ∘dzₜ₊ⱼ,  dwⱼ = Σₜ dzₜ∘xₜ₋ⱼ.
/// </summary>
internal static class CausalConvolution
{
    /// <summary>Emits the convolution.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[tokens, channels].</param>
    /// <param name="weight">[channels, 1, K].</param>
    /// <param name="taps">Which tokens are read, of K.</param>
    /// <returns>[tokens, channels].</returns>
    public static Value Apply(Tape tape, Value x, Weight weight, ConvolutionTaps taps)
    {
        GraphBuilder g = tape.Graph;
        (Dimension tokens, Dimension channels, int size) = (x.Shape[0], x.Shape[1], taps.Back.Count + 1);
        Value[] shifted = Shifted(x, taps.Back); // [tokens, channels]
        Value z = Sum(shifted); // [tokens, channels]
        Value y = g.Silu(z); // [tokens, channels]
        return tape.Record(y, [x, weight.Source], dy =>
        {
            Value share = g.Mul(dy, g.Sigmoid(z)); // [tokens, channels]
            Value dz = g.Add(share, g.Mul(share, g.QuickGelu(z, -1f))); // [tokens, channels]
            tape.AddGradient(x, () => Sum(Shifted(dz, taps.Ahead))); // [tokens, channels]
            tape.AddParameterGradient(weight.Source, () =>
            {
                Value[] parts = [.. Shifted(x, taps.Back).Select(from => g.ReduceSum(g.Mul(dz, from), [0], keepAxes: true))]; // [1, channels]
                Value dw = g.Transpose(g.Concat([.. parts.Reverse()], 0, size), 1, 0); // [channels, K]
                return g.Reshape(dw, [channels.Size, 1, size], [channels, 1, size]);
            });
        });

        // x itself, then the tokens that are named.
        Value[] Shifted(Value whole, IReadOnlyList<Value> numbers)
        {
            Value padded = g.Concat([whole, g.Zeros(g.Int64s(1, channels.Size), [1, channels])], 0, "tokens_and_zeros"); // [tokens + 1, channels]
            return [whole, .. numbers.Select(tokenNumbers => g.Gather(padded, tokenNumbers))]; // [tokens, channels]
        }

        Value Sum(Value[] parts)
        {
            Value kernel = g.Transpose(g.Reshape(weight.Read(g), [channels.Size, size], [channels, size]), 1, 0); // [K, channels]
            Value[] factors = g.Split(kernel, size, 1); // [1, channels]
            Value sum = g.Mul(parts[0], factors[^1]); // [tokens, channels]
            for (int j = 1; j < size; j++)
            {
                sum = g.Add(sum, g.Mul(parts[j], factors[^(j + 1)])); // [tokens, channels]
            }

            return sum;
        }
    }
}
