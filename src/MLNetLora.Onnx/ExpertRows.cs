namespace MLNetLora.Onnx;

/// <summary>
/// Which rows go to which expert: the assignments, k for each row, sorted by expert, so that those of one expert lie side by side. Made of whole numbers,
/// without a gradient.
/// </summary>
internal sealed class ExpertRows
{
    private readonly GraphBuilder _graph;
    private readonly Value _active; // the experts that have rows, [active]
    private readonly Value _starts; // of each expert in the sorted order, [experts]
    private readonly Value _ends; // [experts]
    private readonly Value _order; // what stands at each place of the sorted order, [assigned]
    private readonly Value _places; // where each assignment stands in the sorted order, [assigned]
    private readonly Value _rows; // of which row each place is, [assigned]
    private readonly long _k;

    /// <summary>Emits the sorting.</summary>
    /// <param name="graph">The graph.</param>
    /// <param name="experts">[rows, k], 64-bit.</param>
    /// <param name="count">How many experts there are.</param>
    public ExpertRows(GraphBuilder graph, Value experts, int count)
    {
        _graph = graph;
        _k = experts.Shape[1].Size;
        Assigned = $"assigned.{experts.Shape[0]}";
        Value flat = graph.Reshape(experts, [-1], [Assigned]); // [assigned]
        Value size = graph.Shape(flat); // [1]
        _order = graph.Sort(flat, size).Indices; // [assigned]
        _rows = graph.Div(_order, graph.Int64(_k)); // [assigned]
        _places = graph.ScatterVector(_order, _order, graph.Range(graph.Gather(size, graph.Int64(0)), Assigned)); // [assigned]
        Value ones = graph.Expand(graph.Int64s(1), size, [Assigned]); // [assigned]
        Value counts = graph.ScatterVector(graph.Int64Table($"zeros.{count}", new long[count]), flat, ones, add: true); // [experts]
        _ends = graph.CumSum(counts); // [experts]
        _starts = graph.Sub(_ends, counts); // [experts]
        Active = graph.Symbol("active");
        _active = graph.NonZero(counts, Active); // [active]
        Trips = graph.Gather(graph.Shape(_active), graph.Int64(0)); // []
    }

    /// <summary>What the number of assignments, rows·k, is called.</summary>
    public Dimension Assigned { get; }

    /// <summary>What <see cref="Trips"/> is called.</summary>
    public Dimension Active { get; }

    /// <summary>How many experts have rows: [], 64-bit.</summary>
    public Value Trips { get; }

    /// <summary>The assignments' numbers in the sorted order: [rows, k] → [assigned, 1].</summary>
    public Value Sorted(Value x) => _graph.UnsqueezeLast(_graph.Gather(_graph.Reshape(x, [-1], [Assigned]), _order));

    /// <summary>Back from <see cref="Sorted"/>: [assigned, 1] → [rows, k].</summary>
    public Value Unsorted(Value x, Dimension rows) => _graph.Reshape(_graph.Gather(x, _places), [-1, _k], [rows, _k]);

    /// <summary>Sums up what the experts of each row made of it: [assigned, n] → [rows, n].</summary>
    public Value Sum(Value x, Dimension rows) =>
        _graph.ReduceSum(_graph.Reshape(_graph.Gather(x, _places), [-1, _k, x.Shape[1].Size], [rows, _k, x.Shape[1]]), [1], keepAxes: false);

    /// <summary>What the experts that have rows made, for all experts, zero for the others: [active, …] → [experts, count].</summary>
    public Value Scatter(Value x, long count)
    {
        (Value sizes, Dimension[] shape) = (_graph.Int64s(_starts.Shape[0].Size, count), [_starts.Shape[0], count]);
        return _graph.RowsOfZeros(sizes, shape, _active, _graph.Reshape(x, [-1, count], [Active, count])); // [experts, count]
    }

    /// <summary>The part of one expert, for the body of a loop over <see cref="Trips"/>.</summary>
    /// <param name="trip">[1], 64-bit.</param>
    public Part Of(Value trip)
    {
        Value expert = _graph.Gather(_active, trip); // [1]
        return new Part(this, expert, _graph.Gather(_starts, expert), _graph.Gather(_ends, expert));
    }

    /// <summary>One expert's part of the sorted order.</summary>
    /// <param name="all">The order.</param>
    /// <param name="expert">[1], 64-bit.</param>
    /// <param name="start">[1], 64-bit.</param>
    /// <param name="end">[1], 64-bit.</param>
    public sealed class Part(ExpertRows all, Value expert, Value start, Value end)
    {
        private static readonly Dimension s_rows = "expert_rows";
        private readonly Value _rows = all._graph.Slice(all._rows, start, end, 0, s_rows); // [expert rows]

        /// <summary>Its number: [1], 64-bit.</summary>
        public Value Expert => expert;

        /// <summary>Its rows: [rows, n] → [expert rows, n].</summary>
        public Value Gather(Value x) => all._graph.Gather(x, _rows);

        /// <summary>Its part of what is in the sorted order: [assigned, n] → [expert rows, n].</summary>
        public Value Slice(Value x) => all._graph.Slice(x, start, end, 0, s_rows);
    }
}
