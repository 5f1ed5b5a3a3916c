namespace MLNetLora.Onnx;

/// <summary>
/// Which rows go to which expert, as blocks of equal size that belong to one expert each: how many blocks there are and how large they are follows from shapes
/// alone, whatever the router says, so that on a device no number has to come back. An expert's rows fill its blocks one after another, and what is left
/// of the last block is filled with rows of zeros. Made of whole numbers, without a gradient.
/// </summary>
/// <remarks>
/// With A assignments of rows to E experts a block has B rows, the mean A / E rounded up to a multiple of 16. Every expert has one block, for which its matrix is
/// used where it lies, and those with more rows have further ones, (A − 1) / B together at the most, for which it is copied: twice the rows at the most, and a
/// copy of as many matrices as there are. With few rows blocks of experts without rows would be most of the work. There an expert has the blocks that it
/// needs, (A + min(E, A)·(B − 1)) / B together at the most, and where there are fewer assignments than experts, B is 1.
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
    /// <param name="most">[at least as many as there are rows]: what the size and the number of blocks follow from, so that layers with fewer rows than others
    /// share their memory; null for the rows themselves.</param>
    public ExpertBlocks(GraphBuilder graph, Value experts, Value weights, int count, bool fewRows, Value? most = null)
    {
        (_graph, _count, _k, _of) = (graph, count, experts.Shape[1].Size, (most ?? experts).Shape[0].ToString());
        Dimension assigned = $"assigned.{experts.Shape[0]}";
        Value flat = graph.Reshape(experts, [-1], [assigned]); // [assigned]

        // Sizes are in the processor's memory, [1] each.
        Value assignments = graph.Shape(flat);
        Value size = most is null ? assignments : graph.Mul(graph.Shape(most), graph.Int64s(_k));
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
            Parts = [new Part(this, Blocks(rows, all, shared), Blocks(shares, all, shared), places, everywhere, belongs)];
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
            new Part(this, Blocks(Before(rows), graph.Int64s(count), count), Blocks(Before(shares), graph.Int64s(count), count), firstPlaces, isFirst, null),
            new Part(this, Blocks(Behind(rows), sharing, shared), Blocks(Behind(shares), sharing, shared), furtherPlaces, isFurther, belongs),
        ];

        Value Before(Value x) => graph.Slice(x, graph.Int64s(0), cut, 0, Named("first_slots"));

        Value Behind(Value x) => graph.Slice(x, cut, slotCount, 0, Named("further_slots"));

        // [slots] -> [blocks, block]
        Value Blocks(Value x, Value blocks, Dimension name) => graph.Reshape(x, graph.Concat([blocks, blockSize], 0, 2), [name, Named("block")]);
    }

    /// <summary>The blocks: those whose matrices are used where they lie, and those whose are copied.</summary>
    public IReadOnlyList<Part> Parts { get; }

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

    /// <summary>Some of the blocks.</summary>
    /// <param name="all">All of them.</param>
    /// <param name="rows">One more than the row of each slot, 0 for none, [blocks, block].</param>
    /// <param name="shares">The weight of each slot, 0 for none, [blocks, block].</param>
    /// <param name="places">The slot of each assignment, any for those that are not here, [rows, k].</param>
    /// <param name="isHere">1 or 0, [rows, k].</param>
    /// <param name="experts">Whose the blocks are, [blocks]; null for each expert's in turn.</param>
    public sealed class Part(ExpertBlocks all, Value rows, Value shares, Value places, Value isHere, Value? experts)
    {
        private readonly GraphBuilder _graph = all._graph;

        /// <summary>The weights: [blocks, block, 1].</summary>
        public Value Shares { get; } = all._graph.UnsqueezeLast(shares);

        /// <summary>The rows of each block: [rows, n] → [blocks, block, n].</summary>
        public Value Gather(Value x, long n)
        {
            Value zero = _graph.Table($"zero_row.{n}", new float[n], (int)n); // [1, n]
            Value padded = _graph.Concat([zero, x], 0, $"{places.Shape[0]}_and_zero"); // [1 + rows, n]
            return _graph.Gather(padded, rows);
        }

        /// <summary>Σ over the assignments of each row, times weights [rows, k] where given: [blocks, block, n] → [rows, n].</summary>
        public Value Sum(Value x, Value? weights = null)
        {
            Value y = AtPlaces(x); // [rows, k, n]
            Value factors = weights is null ? isHere : _graph.Mul(weights, isHere); // [rows, k]
            factors = _graph.Reshape(factors, [-1, 1, all._k], [places.Shape[0], 1, all._k]); // [rows, 1, k]
            long n = x.Shape[2].Size;
            return _graph.Reshape(_graph.MatMul(factors, y), [-1, n], [places.Shape[0], n]);
        }

        /// <summary>A number of each assignment, 0 for those that are not here: [blocks, block, 1] → [rows, k].</summary>
        public Value Back(Value x) => _graph.Mul(_graph.Reshape(AtPlaces(x), [-1, all._k], places.Shape), isHere);

        /// <summary>x Wᵀ: [blocks, block, in] → [blocks, block, out].</summary>
        public Value Product(Value x, ExpertWeight weight) => _graph.MatMul(x, Matrices(weight, x), transB: true);

        /// <summary>dy W: [blocks, block, out] → [blocks, block, in].</summary>
        public Value InputGradient(Value dy, ExpertWeight weight) => _graph.MatMul(dy, Matrices(weight, dy));

        /// <summary>What each block's expert has of a stack: [experts, …] → [blocks, …].</summary>
        public Value Of(Value stack) => experts is null ? stack : _graph.Gather(stack, experts);

        /// <summary>The sums over each expert's blocks: [blocks, …] of count numbers each → [experts, count], in float32.</summary>
        public Value Totals(Value x, long count)
        {
            using IDisposable precise = _graph.InFloat32(products: true);
            Value each = _graph.Reshape(x, [-1, count], [x.Shape[0], count]); // [blocks, count]
            if (experts is null)
            {
                return each;
            }

            Value numbers = _graph.Int64Table($"experts.{all._count}", [.. Enumerable.Range(0, (int)all._count).Select(i => (long)i)]); // [experts]
            Value isOf = _graph.Cast(_graph.Equal(_graph.UnsqueezeLast(experts), numbers), ElementType.Float32); // [blocks, experts]
            return _graph.Gemm(isOf, each, transA: true); // [experts, count]
        }

        /// <summary>The blocks' matrices, to multiply x with. They are asked for in x's number of blocks, which moves no data but cannot be known before x is
        /// there: the copies of all matrices of a layer would be made first and wait.</summary>
        private Value Matrices(ExpertWeight weight, Value x)
        {
            if (experts is null)
            {
                return weight.All(_graph);
            }

            Value count = _graph.Gather(_graph.Shape(x), _graph.Int64s(0)); // [1]
            return weight.Of(_graph, _graph.Reshape(experts, count, experts.Shape)); // [blocks, out, in]
        }

        /// <summary>[blocks, block, n] → [rows, k, n].</summary>
        private Value AtPlaces(Value x)
        {
            long n = x.Shape[2].Size;
            return _graph.Gather(_graph.Reshape(x, [-1, n], [experts is null ? all.Named("first_slots") : all.Named("further_slots"), n]), places);
        }
    }
}
