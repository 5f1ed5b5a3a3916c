using MLNetLora.Models;
using MLNetLora.Onnx;

namespace MLNetLora.Artifacts;

/// <summary>
/// Recurrent layers in generation: they go on from the state in the cache, token by token, and leave the new one there. A row that is shorter than the others
/// leaves the state of its last token: behind it nothing is written and nothing fades.
/// </summary>
internal sealed class RecurrentState
{
    private readonly GraphBuilder _graph;
    private readonly GatedDeltaNet _sizes;
    private readonly Value _batch; // [1]
    private readonly Value _length; // [1]
    private readonly Value _isToken; // [batch, sequence, 1]: 1 for tokens, 0 for padding
    private readonly Value _kept; // [batch, taps − 1], rows of what the convolution reads

    /// <summary>Emits what all layers share.</summary>
    /// <param name="graph">Graph.</param>
    /// <param name="sizes">Sizes.</param>
    /// <param name="ids">[batch, sequence].</param>
    public RecurrentState(GraphBuilder graph, GatedDeltaNet sizes, Value ids)
    {
        (_graph, _sizes) = (graph, sizes);
        _batch = graph.Gather(graph.Shape(ids), graph.Int64s(0)); // [1]
        _length = graph.Gather(graph.Shape(ids), graph.Int64s(1)); // [1]

        // Counted outside: made of the sizes here, a device would have to copy them.
        _isToken = graph.Input("token_mask", ElementType.Float32, "batch", "sequence", 1);
        _kept = graph.Input("kept_rows", ElementType.Int64, "batch", sizes.Taps - 1);
    }

    /// <summary>What the graph is told of a run beside the tokens.</summary>
    /// <param name="sizes">Sizes.</param>
    /// <param name="tokens">Tokens of each row.</param>
    /// <param name="length">Tokens of a row, padding included.</param>
    /// <returns>token_mask [rows, length, 1]: 1 for tokens, 0 for padding; kept_rows [rows, taps − 1]: of what the convolution reads,
    /// [rows·(taps − 1 + length)], what the next run reads.</returns>
    public static (float[] TokenMask, long[] KeptRows) Inputs(GatedDeltaNet sizes, IReadOnlyList<int> tokens, int length)
    {
        int kept = sizes.Taps - 1;
        float[] mask = new float[tokens.Count * length];
        long[] rows = new long[tokens.Count * kept];
        for (int r = 0; r < tokens.Count; r++)
        {
            mask.AsSpan(r * length, tokens[r]).Fill(1f);
            for (int i = 0; i < kept; i++)
            {
                rows[(r * kept) + i] = ((long)r * (length + kept)) + tokens[r] + i;
            }
        }

        return (mask, rows);
    }

    /// <summary>What a model is given.</summary>
    public RecurrentCores Cores => new(
        (_, layer, x, weight) => Convolution(layer, x, weight),
        (_, layer, q, k, v, decay, beta) => Delta(layer, q, k, v, decay, beta));

    private Value Convolution(int layer, Value x, Weight weight)
    {
        (long channels, int taps) = (_sizes.Channels, _sizes.Taps);
        Dimension[] state = ["batch", taps - 1, channels];
        Value past = _graph.Input($"past.{layer}.convolution", ElementType.Float32, state);
        Value all = _graph.Concat([past, Rows(x)], 1, "convolved"); // [batch, taps − 1 + sequence, channels]
        Value kernel = _graph.Transpose(_graph.Reshape(weight.Read(_graph), [channels, taps], [channels, taps]), 1, 0); // [taps, channels]
        Value[] factors = _graph.Split(kernel, taps, 1); // [1, channels]
        Value? sum = null;
        for (int i = 0; i < taps; i++)
        {
            Value part = _graph.Slice(all, _graph.Int64s(i), _graph.Add(_length, _graph.Int64s(i)), 1, "sequence"); // [batch, sequence, channels]
            part = _graph.Mul(part, factors[i]); // [batch, sequence, channels]
            sum = sum is null ? part : _graph.Add(sum, part);
        }

        Value flat = _graph.Reshape(all, [-1, channels], ["convolved_rows", channels]);
        _graph.Output(_graph.Gather(flat, _kept, $"present.{layer}.convolution")); // [batch, taps − 1, channels]
        return _graph.Reshape(_graph.Silu(sum!), [-1, channels], [x.Shape[0], channels]); // [tokens, channels]
    }

    private Value Delta(int layer, Value q, Value k, Value v, Value decay, Value beta)
    {
        GatedDeltaNet s = _sizes;
        Value past = _graph.Input($"past.{layer}.recurrence", ElementType.Float32, "batch", s.ValueHeads, s.KeyDim, s.ValueDim);
        (Value y, Value present) = _graph.LinearAttention(Packed(q, s.Keys), Packed(k, s.Keys), Packed(v, s.Values), past,
            _graph.Mul(Rows(decay), _isToken), _graph.Mul(Rows(beta), _isToken), $"present.{layer}.recurrence"); // [batch, sequence, values]
        _graph.Output(present);
        return _graph.Reshape(y, [-1, s.ValueDim], v.Shape); // [tokens·value heads, dv]
    }

    // [tokens, n] -> [batch, sequence, n]
    private Value Rows(Value x) => Packed(x, x.Shape[1].Size);

    // [tokens·heads, d] -> [batch, sequence, heads·d]
    private Value Packed(Value x, long size) =>
        _graph.Reshape(x, _graph.Concat([_batch, _length, _graph.Int64s(size)], 0, 3), ["batch", "sequence", size]);
}
