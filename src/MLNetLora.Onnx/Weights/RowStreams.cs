namespace MLNetLora.Onnx;

/// <summary>
/// x Wᵀ + b over weights that are read once per run, for graphs that are run both with one row and with many. ONNX Runtime multiplies a single row by four
/// adjacent rows of W at a time. Those are four short runs of memory, and every four rows the processor's prefetchers start anew. Here W is split into
/// eight equal parts (a split GEMV), and row i of each part makes a batch of its own: the same kernel then reads eight long runs, four at a time. The
/// sums are the same to the bit.
/// Eight and not four, which is the kernel's own number, because every batch costs a call: four are slower than none where the processor's
/// prefetchers do well alone.
/// With more rows the batch is one, of the whole W, which is the ordinary product.
/// </summary>
/// <param name="graph">The graph; one instance serves all its products.</param>
internal sealed class RowStreams(GraphBuilder graph)
{
    private const long Streams = 8;
    private readonly Dictionary<Dimension, Value> _alone = [];
    private readonly Dictionary<(Dimension Rows, Dimension Out, Dimension In), Value> _views = [];
    private readonly Dictionary<Value, Value> _stacked = [];

    /// <summary>Emits a product; the ordinary one where eight does not divide the outputs.</summary>
    /// <param name="x">[rows, in], the number of rows known at run time.</param>
    /// <param name="weight">[out, in], float32.</param>
    /// <param name="bias">[out], or null.</param>
    /// <returns>[rows, out].</returns>
    public Value Product(Value x, Value weight, Value? bias = null)
    {
        (Dimension rows, Dimension n, Dimension k) = (x.Shape[0], weight.Shape[0], weight.Shape[1]);
        if (n.Size % Streams != 0)
        {
            return graph.Gemm(x, weight, bias, transB: true);
        }

        if (!_stacked.TryGetValue(x, out Value? stacked))
        {
            stacked = _stacked[x] = graph.Reshape(x, [1, -1, k.Size], [1, rows, k]);
        }

        Value y = graph.MatMulStacked(stacked, Parts(x, weight)); // [part, rows, parts]
        y = graph.Reshape(graph.Transpose(y, 1, 2, 0), [-1, n.Size], [rows, n]); // [rows, parts, part] -> [rows, out]
        return bias is null ? y : graph.Add(y, bias);
    }

    /// <summary>The weight as [parts, part, in]: eight parts where x has one row, else parts of one row each. Nothing is moved.</summary>
    internal Value Parts(Value x, Value weight)
    {
        (Dimension rows, Dimension n, Dimension k) = (x.Shape[0], weight.Shape[0], weight.Shape[1]);
        return graph.Reshape(weight, View(x, n, k), [$"parts.{rows}.{n}", $"part.{rows}.{n}", k]);
    }

    // The shape of the split W: (parts, part, in).
    private Value View(Value x, Dimension n, Dimension k)
    {
        Dimension rows = x.Shape[0];
        if (_views.TryGetValue((rows, n, k), out Value? view))
        {
            return view;
        }

        if (!_alone.TryGetValue(rows, out Value? alone))
        {
            alone = _alone[rows] = graph.Equal(graph.Slice(graph.Shape(x), graph.Int64s(0), graph.Int64s(1), 0, 1), graph.Int64s(1)); // [1]
        }

        return _views[(rows, n, k)] = graph.Concat([graph.Where(alone, graph.Int64s(Streams), graph.Int64s(n.Size)), graph.Int64s(-1, k.Size)], 0, 3);
    }
}
