namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// How the tokens of a batch are cut into chunks for <see cref="DeltaRule"/>, made in the graph once for all layers: which rows of a matrix of heads make a
/// chunk, and what a token sees of its chunk and of the state that comes into it. A packed row sees nothing of the one before it; the last chunk is filled up
/// with tokens that nothing sees. Nothing here has a gradient.
/// </summary>
internal sealed class DeltaChunks
{
    private const float Hidden = -1e30f; // a logarithm whose exponential is zero, and no infinity that could turn into NaN

    private DeltaChunks(GraphBuilder g, Value ids, Value firstKeys, int keyHeads, int valueHeads, int size)
    {
        (Size, KeyHeads, ValueHeads) = (size, keyHeads, valueHeads);
        (Dimension batch, Dimension sequence) = (ids.Shape[0], ids.Shape[1]);
        Value length = g.Gather(g.Shape(ids), g.Int64s(1)); // [1]
        Value rows = g.Gather(g.Shape(ids), g.Int64s(0)); // [1]
        Value count = g.Div(g.Add(length, g.Int64s(size - 1)), g.Int64s(size)); // [1]
        Value everywhere = g.Range(g.Reshape(length, [], []), sequence); // [sequence]
        Value everyRow = g.Range(g.Reshape(rows, [], []), batch); // [batch]
        (Value tokensOfRow, Value rowCount) = (g.CountOf(everywhere), g.CountOf(everyRow)); // [1], as length and rows
        Value last = g.Sub(tokensOfRow, g.Int64s(1)); // [1]
        Value starts = g.Mul(g.Range(g.Reshape(count, [], []), Chunks), g.Int64s(size)); // [chunks], the first position of each
        Value within = g.Range(g.Int64(size), size); // [C]
        Value positions = g.Add(g.UnsqueezeLast(starts), within); // [chunks, C]
        Value inside = g.Min(positions, last); // [chunks, C]
        BatchSize = rows;

        // Rows of a matrix [tokens·heads, d]: (row of the batch · sequence + position) · heads + head.
        Value batchRows = g.Reshape(everyRow, [1, -1, 1, 1], [1, batch, 1, 1]); // [1, batch, 1, 1]
        Value tokens = g.Add(g.Mul(batchRows, tokensOfRow), g.Reshape(inside, [-1, 1, 1, size], [Chunks, 1, 1, size])); // [chunks, batch, 1, C]
        Value heads = g.Reshape(g.Range(g.Int64(valueHeads), valueHeads), [valueHeads, 1], [valueHeads, 1]); // [value heads, 1]
        ValueRows = g.Add(g.Mul(tokens, g.Int64s(valueHeads)), heads); // [chunks, batch, value heads, C]
        KeyRows = keyHeads == valueHeads ? ValueRows : g.Add(g.Mul(tokens, g.Int64s(keyHeads)), g.Div(heads, g.Int64s(valueHeads / keyHeads)));

        // And back: ((chunk · batch + row of the batch) · heads + head) · C + place within the chunk.
        Value at = g.Reshape(everywhere, [1, -1, 1], [1, sequence, 1]); // [1, sequence, 1]
        Value chunk = g.Div(at, g.Int64s(size)); // [1, sequence, 1]
        Value row = g.Add(g.Mul(chunk, rowCount), g.Reshape(batchRows, [-1, 1, 1], [batch, 1, 1])); // [batch, sequence, 1]
        Value head = g.Add(g.Mul(row, g.Int64s(valueHeads)), g.Reshape(heads, [1, 1, valueHeads], [1, 1, valueHeads])); // [batch, sequence, value heads]
        Value places = g.Add(g.Mul(head, g.Int64s(size)), g.Sub(at, g.Mul(chunk, g.Int64s(size)))); // [batch, sequence, value heads]
        Places = g.Reshape(places, [-1], ["delta_rows"]); // [tokens·value heads]

        Dimension masks = firstKeys.Shape[0];
        Value firsts = g.Gather(g.Transpose(firstKeys, 1, 0), inside); // [chunks, C, masks]
        firsts = g.Reshape(g.Transpose(firsts, 0, 2, 1), [0, 0, 1, size, 1], [Chunks, masks, 1, size, 1]); // [chunks, masks, 1, C, 1]
        Value query = g.Reshape(positions, [-1, 1, 1, size, 1], [Chunks, 1, 1, size, 1]);
        Value key = g.Reshape(positions, [-1, 1, 1, 1, size], [Chunks, 1, 1, 1, size]);
        Value start = g.Reshape(starts, [-1, 1, 1, 1, 1], [Chunks, 1, 1, 1, 1]);
        Value real = g.GreaterOrEqual(last, query); // [chunks, 1, 1, C, 1]
        Value attends = g.And(g.And(g.GreaterOrEqual(query, key), g.GreaterOrEqual(key, firsts)), real); // [chunks, masks, 1, C, C]
        Value carried = g.And(g.GreaterOrEqual(g.Sub(start, g.Int64s(1)), firsts), real); // [chunks, masks, 1, C, 1]
        Value lastFirst = g.Slice(firsts, g.Int64s(size - 1), g.Int64s(size), 3, 1); // [chunks, masks, 1, 1, 1]
        Value kept = g.And(g.GreaterOrEqual(query, lastFirst), real); // [chunks, masks, 1, C, 1]
        Value passes = g.GreaterOrEqual(g.Sub(start, g.Int64s(1)), lastFirst); // [chunks, masks, 1, 1, 1]
        (Attends, Carried, Kept, Passes) = (Bias(attends), Bias(carried), Bias(kept), Bias(passes));

        Value Bias(Value visible) => g.Where(visible, g.Float(0f), g.Float(Hidden));
    }

    /// <summary>Tokens of a chunk: C, a power of two.</summary>
    internal int Size { get; }

    /// <summary>Heads of queries and keys.</summary>
    internal int KeyHeads { get; }

    /// <summary>Heads of values; as many in turn share a key head.</summary>
    internal int ValueHeads { get; }

    /// <summary>Number of chunks.</summary>
    internal Dimension Chunks { get; } = "delta_chunks";

    /// <summary>[1].</summary>
    internal Value BatchSize { get; }

    /// <summary>The rows of [tokens·value heads, d] in chunks, [chunks, batch, value heads, C].</summary>
    internal Value ValueRows { get; }

    /// <summary>The rows of [tokens·key heads, d], [chunks, batch, value heads, C].</summary>
    internal Value KeyRows { get; }

    /// <summary>Where the rows of [tokens·value heads, d] are among the chunks', [tokens·value heads].</summary>
    internal Value Places { get; }

    /// <summary>0 where a token sees another of its chunk, very negative elsewhere: [chunks, batch or 1, 1, C, C].</summary>
    internal Value Attends { get; }

    /// <summary>The same for the state that comes into the chunk: [chunks, batch or 1, 1, C, 1].</summary>
    internal Value Carried { get; }

    /// <summary>The same for what the state that leaves the chunk sees of a token: [chunks, batch or 1, 1, C, 1].</summary>
    internal Value Kept { get; }

    /// <summary>The same for what the state that leaves the chunk sees of the one that came in: [chunks, batch or 1, 1, 1, 1].</summary>
    internal Value Passes { get; }

    /// <summary>Emits the numbers of the rows and the biases.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="ids">[batch, sequence], only its sizes count.</param>
    /// <param name="firstKeys">[batch or 1, sequence], 64-bit: where each token's packed row begins.</param>
    /// <param name="keyHeads">Heads of queries and keys.</param>
    /// <param name="valueHeads">Heads of values, a multiple of <paramref name="keyHeads"/>.</param>
    /// <param name="size">Tokens of a chunk, a power of two from 2 on. The result does not depend on it.</param>
    public static DeltaChunks Build(GraphBuilder g, Value ids, Value firstKeys, int keyHeads, int valueHeads, int size = 64) =>
        new(g, ids, firstKeys, keyHeads, valueHeads, size);
}
