namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Which tokens a causal convolution along the sequence reads, made in the graph once for all layers: the token j back, where it lies in the same packed row.
/// Elsewhere the row behind the last token is named, which is to hold zeros. Nothing here has a gradient.
/// </summary>
internal sealed class ConvolutionTaps
{
    private ConvolutionTaps(Value[] back, Value[] ahead) => (Back, Ahead) = (back, ahead);

    /// <summary>The token j back of each token, [tokens]: the first is one back.</summary>
    internal IReadOnlyList<Value> Back { get; }

    /// <summary>The token that each token is j back of, [tokens].</summary>
    internal IReadOnlyList<Value> Ahead { get; }

    /// <summary>Emits the numbers of the tokens.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="ids">[batch, sequence], only its sizes count.</param>
    /// <param name="firstKeys">[batch or 1, sequence], 64-bit: where each token's packed row begins.</param>
    /// <param name="taps">Tokens that the convolution reads, the current one included.</param>
    public static ConvolutionTaps Build(GraphBuilder g, Value ids, Value firstKeys, int taps)
    {
        (Dimension batch, Dimension sequence) = (ids.Shape[0], ids.Shape[1]);
        Value length = g.Gather(g.Shape(ids), g.Int64s(1)); // [1]
        Value rows = g.Gather(g.Shape(ids), g.Int64s(0)); // [1]
        Value everywhere = g.Range(g.Reshape(length, [], []), sequence); // [sequence]
        Value everyRow = g.Range(g.Reshape(rows, [], []), batch); // [batch]
        Value tokensOfRow = g.CountOf(everywhere); // [1], as length
        Value zeros = g.Mul(g.CountOf(everyRow), tokensOfRow); // [1], the number of the row of zeros
        Value positions = g.Reshape(everywhere, [1, -1], [1, sequence]); // [1, sequence]
        Value starts = g.Mul(g.UnsqueezeLast(everyRow), tokensOfRow); // [batch, 1]
        Value[] back = new Value[taps - 1];
        Value[] ahead = new Value[taps - 1];
        for (int j = 1; j < taps; j++)
        {
            Value source = g.Sub(positions, g.Int64s(j)); // [1, sequence]
            back[j - 1] = Numbers(source, g.GreaterOrEqual(source, firstKeys));
            Value target = g.Add(positions, g.Int64s(j)); // [1, sequence]
            Value inside = g.Min(target, g.Sub(tokensOfRow, g.Int64s(1))); // [1, sequence]
            Value first = g.Transpose(g.Gather(g.Transpose(firstKeys, 1, 0), g.Reshape(inside, [-1], [sequence])), 1, 0); // [batch or 1, sequence]
            ahead[j - 1] = Numbers(target, g.And(g.GreaterOrEqual(positions, first), g.Equal(target, inside)));
        }

        return new ConvolutionTaps(back, ahead);

        // [tokens]
        Value Numbers(Value at, Value isInRow) => g.Reshape(g.Where(isInRow, g.Add(starts, at), zeros, [batch, sequence]), [-1], ["tokens"]);
    }
}
