namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Which keys a query sees, made in the graph from one number per query: those from its first visible key up to itself. A padded or packed row and a sliding
/// window are all of this kind. The queries are cut into chunks of equal size; a chunk's bias covers only the keys up to its last query, so what no query of it
/// can see is never computed. Nothing here has a gradient.
/// </summary>
/// <param name="Biases">Per chunk, [batch or 1, 1, chunk, seen]: 0 where a query sees a key and very negative elsewhere.</param>
/// <param name="Ends">Where chunks begin and end, chunks + 1 run-time vectors of one element, the first of them 0.</param>
public sealed record CausalMask(IReadOnlyList<Value> Biases, IReadOnlyList<Value> Ends)
{
    private const float Hidden = -1e30f; // far below any score, and no infinity that could turn into NaN

    /// <summary>Emits the biases.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="firstKeys">[batch or 1, sequence], 64-bit, each at most its own position; the sequence is a multiple of <paramref name="chunks"/>.</param>
    /// <param name="chunks">Number of chunks.</param>
    public static CausalMask Build(GraphBuilder g, Value firstKeys, int chunks = 1)
    {
        Value length = g.Gather(g.Shape(firstKeys), g.Int64s(1)); // [1]
        Value chunk = g.Div(length, g.Int64s(chunks)); // [1]
        Value[] ends = [g.Int64s(0), .. Enumerable.Range(1, chunks).Select(i => i == chunks ? length : g.Mul(chunk, g.Int64s(i)))];
        Value positions = g.Range(g.Reshape(length, [], []), "sequence"); // [sequence]
        Value queries = g.UnsqueezeLast(positions); // [sequence, 1]
        Value firsts = g.Reshape(firstKeys, [0, 1, -1, 1], [firstKeys.Shape[0], 1, "sequence", 1]); // [batch, 1, sequence, 1]
        Value[] biases = new Value[chunks];
        for (int i = 0; i < chunks; i++)
        {
            Value seen = chunks == 1 ? positions : g.Slice(positions, ends[0], ends[i + 1], 0, $"seen_{i}"); // [seen]
            Value query = chunks == 1 ? queries : g.Slice(queries, ends[i], ends[i + 1], 0, "query_chunk"); // [chunk, 1]
            Value first = chunks == 1 ? firsts : g.Slice(firsts, ends[i], ends[i + 1], 2, "query_chunk"); // [batch, 1, chunk, 1]
            Value visible = g.And(g.GreaterOrEqual(query, seen), g.GreaterOrEqual(seen, first)); // [batch, 1, chunk, seen]
            biases[i] = g.Where(visible, g.Float(0f), g.Float(Hidden)); // [batch, 1, chunk, seen]
        }

        return new CausalMask(biases, ends);
    }
}
