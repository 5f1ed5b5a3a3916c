namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Which keys a query sees, made in the graph from one number per query: those from its first visible key up to itself. A padded or packed row and a sliding
/// window are all of this kind. The queries are cut into chunks of equal size, and a chunk sees only the keys from the first visible one of its
/// queries up to its last query, so what no query of it can see is never computed. Where chunks begin and how they overlap is counted outside and given to
/// the graph: sizes are wanted in the processor's memory, and numbers of a device would have to come back for them. Nothing here has a gradient.
/// </summary>
internal sealed class CausalMask
{
    private const float Hidden = -1e30f; // far below any score, and no infinity that could turn into NaN

    private CausalMask(QueryChunk[] chunks, ChunkBorder[] borders, bool isPlain) => (Chunks, Borders, IsPlain) = (chunks, borders, isPlain);

    /// <summary>Whether every query sees all keys up to itself, so that one operator does the forward pass: no packed rows, no window.</summary>
    internal bool IsPlain { get; }

    /// <summary>The chunks, first queries first.</summary>
    internal IReadOnlyList<QueryChunk> Chunks { get; }

    /// <summary>Between each chunk and the next.</summary>
    internal IReadOnlyList<ChunkBorder> Borders { get; }

    /// <summary>Emits the biases. Further inputs of the graph are those of <see cref="Bounds"/>.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="firstKeys">[batch or 1, sequence], 64-bit, each at most its own position; the sequence is a multiple of
    /// <paramref name="chunks"/>. Its name is part of the symbols.</param>
    /// <param name="chunks">Number of chunks.</param>
    /// <param name="isPlain">Whether all first keys will be 0.</param>
    public static CausalMask Build(GraphBuilder g, Value firstKeys, int chunks = 1, bool isPlain = false)
    {
        Value length = g.Gather(g.Shape(firstKeys), g.Int64s(1)); // [1]
        Value chunk = g.Div(length, g.Int64s(chunks)); // [1]
        Value[] ends = [g.Int64s(0), .. Enumerable.Range(1, chunks).Select(i => i == chunks ? length : g.Mul(chunk, g.Int64s(i)))];
        Value[] starts = [ends[0], .. Enumerable.Range(1, chunks - 1).Select(i => g.Input(StartName(firstKeys.Name, i), ElementType.Int64, 1))];
        Value positions = g.Range(g.Reshape(length, [], []), "sequence"); // [sequence]
        Value queries = g.UnsqueezeLast(positions); // [sequence, 1]
        Value firsts = g.Reshape(firstKeys, [0, 1, -1, 1], [firstKeys.Shape[0], 1, "sequence", 1]); // [batch, 1, sequence, 1]
        QueryChunk[] all = new QueryChunk[chunks];
        for (int i = 0; i < chunks; i++)
        {
            Value visible = chunks == 1 ? positions : g.Slice(positions, starts[i], ends[i + 1], 0, $"{firstKeys.Name}_visible_{i}"); // [visible]
            Value query = chunks == 1 ? queries : g.Slice(queries, ends[i], ends[i + 1], 0, "query_chunk"); // [chunk, 1]
            Value first = chunks == 1 ? firsts : g.Slice(firsts, ends[i], ends[i + 1], 2, "query_chunk"); // [batch, 1, chunk, 1]
            Value attends = g.And(g.GreaterOrEqual(query, visible), g.GreaterOrEqual(visible, first)); // [batch, 1, chunk, visible]
            all[i] = new QueryChunk(g.Where(attends, g.Float(0f), g.Float(Hidden)), starts[i], ends[i + 1]); // [batch, 1, chunk, visible]
        }

        return new CausalMask(all, [.. Enumerable.Range(0, chunks - 1).Select(Border)], isPlain);

        ChunkBorder Border(int i) => new(
            g.Input(BeforeName(firstKeys.Name, i), ElementType.Int64, 1), g.Input(SharedName(firstKeys.Name, i), ElementType.Int64, 1),
            $"{firstKeys.Name}_before_{i + 1}", $"{firstKeys.Name}_shared_{i + 1}");
    }

    /// <summary>
    /// The inputs that tell where chunks begin: NAME.start.i, [1], the first key that any query of chunk i sees, and none after that of the next chunk;
    /// NAME.before.i and NAME.shared.i, [1], the sizes of <see cref="ChunkBorder"/> between chunk i and the next. The first chunk starts at 0.
    /// </summary>
    /// <param name="name">Name of the first keys' input.</param>
    /// <param name="firstKeys">The first keys, rows one after another.</param>
    /// <param name="rows">Number of rows.</param>
    /// <param name="chunks">Number of chunks, of which a row's length is a multiple.</param>
    public static IEnumerable<(string Name, long[] Values)> Bounds(string name, long[] firstKeys, int rows, int chunks)
    {
        int length = firstKeys.Length / rows;
        int chunk = length / chunks;
        long[] starts = new long[chunks];
        for (int i = chunks - 1; i > 0; i--) // the first query sees only the first key
        {
            starts[i] = Enumerable.Range(0, rows).Min(row => firstKeys.AsSpan((row * length) + (i * chunk), chunk).ToArray().Min());
            starts[i] = i == chunks - 1 ? starts[i] : Math.Min(starts[i], starts[i + 1]);
            yield return (StartName(name, i), [starts[i]]);
        }

        for (int i = 0; i < chunks - 1; i++)
        {
            yield return (BeforeName(name, i), [starts[i + 1] - starts[i]]);
            yield return (SharedName(name, i), [((i + 1) * chunk) - starts[i + 1]]);
        }
    }

    private static string StartName(string name, int chunk) => $"{name}.start.{chunk}";

    private static string BeforeName(string name, int chunk) => $"{name}.before.{chunk}";

    private static string SharedName(string name, int chunk) => $"{name}.shared.{chunk}";
}

/// <summary>A chunk of queries and the keys that any of them sees.</summary>
/// <param name="Bias">[batch or 1, 1, chunk, visible]: 0 where a key is visible to a query and very negative elsewhere.</param>
/// <param name="Start">First visible key, [1].</param>
/// <param name="End">The key after the last visible one, which is also the query after the chunk's last, [1].</param>
internal sealed record QueryChunk(Value Bias, Value Start, Value End)
{
    /// <summary>Number of visible keys.</summary>
    public Dimension Visible => Bias.Shape[^1];
}

/// <summary>How the keys of a chunk and of the next one overlap: the chunk's are those before the next one's first and those that both see, the next
/// one's are these and its own queries' keys.</summary>
/// <param name="BeforeSize">Number of keys that the next chunk no longer sees, [1].</param>
/// <param name="SharedSize">Number of keys that both see, [1].</param>
/// <param name="Before">The first as a dimension.</param>
/// <param name="Shared">The second as a dimension.</param>
internal sealed record ChunkBorder(Value BeforeSize, Value SharedSize, Dimension Before, Dimension Shared);
