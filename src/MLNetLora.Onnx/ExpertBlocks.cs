namespace MLNetLora.Onnx;

/// <summary>
/// Which rows go to which expert, as blocks of equal size that belong to one expert each: how many blocks there are and how large they are follows from shapes
/// alone, whatever the router says, so that on a device no number has to come back. An expert's rows fill its blocks one after another, and what is left
/// of the last block is filled with rows of zeros. Made of whole numbers, without a gradient.
/// </summary>
/// <remarks>
/// With A assignments of rows to E experts a block has B rows, the mean A / E rounded up to a multiple of 16. Every expert has one block, for which its matrix
/// is used where it lies, and those with more rows have further ones, (A − 1) / B together at the most, for which it is copied: about twice the rows at the
/// most, and a copy of as many matrices as there are. With few rows blocks of experts without rows would be most of the work. There an expert has the blocks
/// that it needs, (A + min(E, A)·(B − 1)) / B together at the most, and where there are fewer assignments than experts, B is 1.
/// </remarks>
internal sealed class ExpertBlocks
{
    private const long Grain = 16; // of rows in a block, what tensor cores multiply at a time
    private const long Above = 1L << 32; // every number of an assignment

    private readonly GraphBuilder _graph;
    private readonly long _count;
    private readonly long _k;
    private readonly string _of; // behind the symbols, what they follow from

    /// <summary>Emits the sorting.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="experts">[rows, k], 64-bit; no expert twice in a row.</param>
    /// <param name="weights">[rows, k].</param>
    /// <param name="count">How many experts there are.</param>
    /// <param name="fewRows">Whether there are mostly fewer assignments than experts.</param>
    /// <param name="most">[1], 64-bit, in the processor's memory: at least as many as there are rows. The size and the number of blocks follow from it, so that
    /// layers with fewer rows than others share their memory; null for the rows themselves.</param>
    public ExpertBlocks(GraphBuilder graph, Value experts, Value weights, int count, bool fewRows, Value? most = null)
    {
        (_graph, _count, _k, _of) = (graph, count, experts.Shape[1].Size, most is null ? experts.Shape[0].ToString() : "most");
        Dimension assigned = $"assigned.{experts.Shape[0]}";
        Value flat = graph.Reshape(experts, [-1], [assigned]); // [assigned]

        // Sizes are in the processor's memory, [1] each.
        Value assignments = graph.Shape(flat);
        Value size = most is null ? assignments : graph.Mul(most, graph.Int64s(_k));
        Value mean = graph.Div(size, graph.Int64s(count));
        Value blockSize = graph.Max(graph.Int64s(1), graph.Mul(graph.Div(graph.Add(mean, graph.Int64s(Grain - 1)), graph.Int64s(Grain)), graph.Int64s(Grain)));
        Value lessOne = graph.Sub(blockSize, graph.Int64s(1));
        Value sharing = fewRows
            ? graph.Div(graph.Add(size, graph.Mul(graph.Min(size, graph.Int64s(count)), lessOne)), blockSize)
            : graph.Max(graph.Int64s(1), graph.Div(graph.Sub(size, graph.Int64s(1)), blockSize)); // blocks for which matrices are copied
        Value all = fewRows ? sharing : graph.Add(sharing, graph.Int64s(count));
        Value slotCount = graph.Mul(all, blockSize);

        // Numbers are in the device's. Those of one expert stay in their order, so that sums are the same every time.
        Value numbers = graph.Range(Scalar(assignments), assigned); // [assigned]
        Value block = graph.CountOf(graph.Range(Scalar(blockSize), Named("block"))); // [1]
        (Value sorted, Value order) = graph.Sort(graph.Add(graph.Mul(flat, graph.Int64(Above)), numbers), assignments); // [assigned] each
        Value expert = graph.Div(sorted, graph.Int64(Above)); // [assigned]
        Value ones = graph.Expand(graph.Int64s(1), assignments, [assigned]); // [assigned]
        Value counts = graph.ScatterVector(graph.Int64Table($"zeros.{count}", new long[count]), flat, ones, add: true); // [experts]
        Value starts = graph.Sub(graph.CumSum(counts), counts); // [experts]
        Value needed = graph.Div(graph.Add(counts, graph.Sub(block, graph.Int64(1))), block); // blocks, [experts]
        Value sharingOf = fewRows ? needed : graph.Max(graph.Sub(needed, graph.Int64(1)), graph.Int64(0)); // [experts]
        Value ends = graph.CumSum(sharingOf); // [experts]
        Value first = graph.Gather(graph.Sub(ends, sharingOf), expert); // [assigned]
        Value rank = graph.Sub(numbers, graph.Gather(starts, expert)); // among those of its expert, [assigned]
        Value own = fewRows ? first : graph.Where(
            graph.GreaterOrEqual(rank, block), graph.Add(first, graph.Int64(count - 1)), expert); // the block that rank is counted from, [assigned]
        Value slot = graph.Add(graph.Mul(own, block), rank); // [assigned]
        Value slots = graph.ScatterVector(order, order, slot); // in the order of the assignments, [assigned]
        Value none = graph.Expand(graph.Int64s(0), slotCount, [Named("slots")]); // [slots]
        Value rows = graph.ScatterVector(none, slot, graph.Add(graph.Div(order, graph.Int64(_k)), graph.Int64(1))); // [slots], 0 for none
        Value zeros = graph.Zeros(slotCount, [Named("slots")]); // [slots]
        Value shares = graph.ScatterVector(zeros, slots, graph.Reshape(weights, [-1], [assigned])); // [slots]
        Value places = graph.Reshape(slots, [-1, _k], experts.Shape); // [rows, k]
        Dimension shared = Named("shared_blocks");
        Value belongs = Experts(ends, sharing, shared); // [shared blocks]
        if (fewRows)
        {
            Value everywhere = graph.Expand(graph.Float(1f), graph.Shape(experts), experts.Shape); // [rows, k]
            Parts = [new ExpertPart(graph, Blocks(rows, all, shared), Blocks(shares, all, shared), places, everywhere, Named("slots"), count, belongs)];
            return;
        }

        Value border = graph.Mul(block, graph.Int64(count)); // [1]
        Value isFurther = graph.Cast(graph.GreaterOrEqual(places, border), ElementType.Float32); // [rows, k]
        Value isFirst = graph.Sub(graph.Float(1f), isFurther); // [rows, k]
        Value firstPlaces = graph.Min(places, graph.Sub(border, graph.Int64(1))); // [rows, k]
        Value furtherPlaces = graph.Max(graph.Sub(places, border), graph.Int64(0)); // [rows, k]
        Value cut = graph.Mul(blockSize, graph.Int64s(count));
        Parts =
        [
            new ExpertPart(
                graph, Blocks(Before(rows), graph.Int64s(count), count), Blocks(Before(shares), graph.Int64s(count), count), firstPlaces, isFirst,
                Named("first_slots"), count),
            new ExpertPart(
                graph, Blocks(Behind(rows), sharing, shared), Blocks(Behind(shares), sharing, shared), furtherPlaces, isFurther,
                Named("further_slots"), count, belongs),
        ];

        Value Before(Value x) => graph.Slice(x, graph.Int64s(0), cut, 0, Named("first_slots"));

        Value Behind(Value x) => graph.Slice(x, cut, slotCount, 0, Named("further_slots"));

        // [slots] -> [blocks, block]
        Value Blocks(Value x, Value blocks, Dimension name) => graph.Reshape(x, graph.Concat([blocks, blockSize], 0, 2), [name, Named("block")]);
    }

    /// <summary>The blocks: those whose matrices are used where they lie, and those whose are copied.</summary>
    public IReadOnlyList<ExpertPart> Parts { get; }

    private Dimension Named(string name) => $"{name}.{_of}";

    private Value Scalar(Value size) => _graph.Gather(size, _graph.Int64(0));

    /// <summary>Whose each block is: the first expert behind whose last block it does not stand; of those that nobody needs the last expert's.</summary>
    /// <param name="ends">How many blocks experts have up to each one, [experts].</param>
    /// <param name="blocks">How many there are, a size, [1].</param>
    /// <param name="name">The same as a dimension.</param>
    /// <returns>[blocks], 64-bit.</returns>
    private Value Experts(Value ends, Value blocks, Dimension name)
    {
        Value numbers = _graph.UnsqueezeLast(_graph.Range(Scalar(blocks), name)); // [blocks, 1]
        Value passed = _graph.Cast(_graph.GreaterOrEqual(numbers, ends), ElementType.Int64); // [blocks, experts]
        return _graph.Min(_graph.ReduceSum(passed, [-1], keepAxes: false), _graph.Int64(_count - 1)); // [blocks]
    }
}
