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
    /// <param name="last">[batch], row·sequence + the last token of each row.</param>
    public RecurrentState(GraphBuilder graph, GatedDeltaNet sizes, Value ids, Value last)
    {
        (_graph, _sizes) = (graph, sizes);
        _batch = graph.Gather(graph.Shape(ids), graph.Int64s(0)); // [1]
        _length = graph.Gather(graph.Shape(ids), graph.Int64s(1)); // [1]
        Value rows = graph.Range(graph.Reshape(_batch, [], []), "batch"); // [batch]
        Value lasts = graph.UnsqueezeLast(graph.Sub(last, graph.Mul(rows, _length))); // [batch, 1], within its row
        Value positions = graph.Reshape(graph.Range(graph.Reshape(_length, [], []), "sequence"), [1, -1], [1, "sequence"]); // [1, sequence]
        _isToken = graph.UnsqueezeLast(graph.Cast(graph.GreaterOrEqual(lasts, positions), ElementType.Float32)); // [batch, sequence, 1]
        Value starts = graph.UnsqueezeLast(graph.Mul(rows, graph.Add(_length, graph.Int64s(sizes.Taps - 1)))); // [batch, 1]
        Value kept = graph.Add(graph.Add(starts, lasts), graph.Int64s(1)); // [batch, 1], the row of the first that stays
        _kept = graph.Add(kept, graph.Range(graph.Int64(sizes.Taps - 1), sizes.Taps - 1)); // [batch, taps − 1]
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
