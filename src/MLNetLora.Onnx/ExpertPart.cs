namespace MLNetLora.Onnx;

/// <summary>Some of the blocks of a layer's experts: how rows come into them, what they are multiplied with, and how rows come out.</summary>
/// <param name="graph">The graph.</param>
/// <param name="rows">One more than the row of each slot, 0 for none, [blocks, block].</param>
/// <param name="shares">The weight of each slot, 0 for none, [blocks, block].</param>
/// <param name="places">The slot of each assignment, any for those that are not here, [rows, k].</param>
/// <param name="isHere">1 or 0, [rows, k].</param>
/// <param name="slots">What blocks · block is called.</param>
/// <param name="count">How many experts there are.</param>
/// <param name="experts">Whose the blocks are, [blocks], 64-bit; null for each expert's in turn.</param>
internal sealed class ExpertPart(
    GraphBuilder graph, Value rows, Value shares, Value places, Value isHere, Dimension slots, int count, Value? experts = null)
{
    private readonly long _k = places.Shape[1].Size;

    /// <summary>The weights: [blocks, block, 1].</summary>
    public Value Shares { get; } = graph.UnsqueezeLast(shares);

    /// <summary>The rows of each block, zeros where it has none: [rows, n] → [blocks, block, n].</summary>
    public Value Gather(Value x, long n)
    {
        Value zero = graph.Table($"zero_row.{n}", new float[n], (int)n); // [1, n]
        Value padded = graph.Concat([zero, x], 0, $"{places.Shape[0]}_and_zero"); // [1 + rows, n]
        return graph.Gather(padded, rows);
    }

    /// <summary>Σ over the assignments of each row, times weights [rows, k] where given: [blocks, block, n] → [rows, n].</summary>
    public Value Sum(Value x, Value? weights = null)
    {
        Value y = AtPlaces(x); // [rows, k, n]
        Value factors = weights is null ? isHere : graph.Mul(weights, isHere); // [rows, k]
        factors = graph.Reshape(factors, [-1, 1, _k], [places.Shape[0], 1, _k]); // [rows, 1, k]
        long n = x.Shape[2].Size;
        return graph.Reshape(graph.MatMul(factors, y), [-1, n], [places.Shape[0], n]);
    }

    /// <summary>A number of each assignment, 0 for those that are not here: [blocks, block, 1] → [rows, k].</summary>
    public Value Back(Value x) => graph.Mul(graph.Reshape(AtPlaces(x), [-1, _k], places.Shape), isHere);

    /// <summary>x Wᵀ: [blocks, block, in] → [blocks, block, out].</summary>
    public Value Product(Value x, ExpertWeight weight) => graph.MatMul(x, Matrices(weight, x), transB: true);

    /// <summary>dy W: [blocks, block, out] → [blocks, block, in].</summary>
    public Value InputGradient(Value dy, ExpertWeight weight) => graph.MatMul(dy, Matrices(weight, dy));

    /// <summary>What each block's expert has of a stack: [experts, …] → [blocks, …].</summary>
    public Value Of(Value stack) => experts is null ? stack : graph.Gather(stack, experts);

    /// <summary>The sums over each expert's blocks: [blocks, …] of n numbers each → [experts, n], in float32.</summary>
    public Value Totals(Value x, long n)
    {
        using IDisposable precise = graph.InFloat32(products: true);
        Value each = graph.Reshape(x, [-1, n], [x.Shape[0], n]); // [blocks, n]
        if (experts is null)
        {
            return each;
        }

        Value numbers = graph.Int64Table($"experts.{count}", [.. Enumerable.Range(0, count).Select(i => (long)i)]); // [experts]
        Value isOf = graph.Cast(graph.Equal(graph.UnsqueezeLast(experts), numbers), ElementType.Float32); // [blocks, experts]
        return graph.Gemm(isOf, each, transA: true); // [experts, n]
    }

    /// <summary>The blocks' matrices, to multiply x with. They are asked for in x's number of blocks, which moves no data but cannot be known before x is
    /// there: the copies of all matrices of a layer would be made first and wait.</summary>
    private Value Matrices(ExpertWeight weight, Value x)
    {
        if (experts is null)
        {
            return weight.All(graph);
        }

        Value blocks = graph.Gather(graph.Shape(x), graph.Int64s(0)); // [1]
        return weight.Of(graph, graph.Reshape(experts, blocks, experts.Shape)); // [blocks, out, in]
    }

    /// <summary>[blocks, block, n] → [rows, k, n].</summary>
    private Value AtPlaces(Value x)
    {
        long n = x.Shape[2].Size;
        return graph.Gather(graph.Reshape(x, [-1, n], [slots, n]), places);
    }
}
