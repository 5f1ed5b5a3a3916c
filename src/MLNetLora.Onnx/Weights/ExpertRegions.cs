namespace MLNetLora.Onnx;

/// <summary>A stretch of a file with matrices of experts in it, in pieces of one size.</summary>
/// <param name="Pieces">[pieces, piece], float32 or 16 bits.</param>
/// <param name="Starts">With which piece the matrix of each expert begins; −1 for one that lies elsewhere.</param>
internal sealed record ExpertRegion(Value Pieces, IReadOnlyList<long> Starts);

/// <summary>
/// One matrix of each expert of a layer, frozen, where it lies: a run copies that of one expert at a time, so that the experts are never stacked in memory and
/// a loop over them is a few nodes, however many they are. A matrix is gathered in pieces, which several threads copy, and not sliced, which one does.
/// </summary>
/// <param name="name">What the tables of this weight are called in the graph.</param>
/// <param name="regions">Where the matrices lie; several where a border of files goes through the layer.</param>
/// <param name="rows">Outputs.</param>
/// <param name="columns">Inputs.</param>
internal sealed class ExpertRegions(string name, IReadOnlyList<ExpertRegion> regions, long rows, long columns)
    : ExpertWeight(regions[0].Starts.Count, rows, columns)
{
    /// <inheritdoc/>
    public override Value Read(GraphBuilder graph, Value expert)
    {
        if (regions.Count == 1)
        {
            return graph.Reshape(Part(graph, 0, expert), [Rows, Columns], [Rows, Columns]);
        }

        Value[] parts = [.. regions.Select((_, i) => graph.Reshape(Part(graph, i, expert), [-1], [graph.Symbol("expert_part")]))]; // [out · in] or [0] each
        return graph.Reshape(graph.Concat(parts, 0, Rows * Columns), [Rows, Columns], [Rows, Columns]);
    }

    /// <inheritdoc/>
    /// <remarks>Stacked in memory, for graphs that are written for a device and run on a processor.</remarks>
    public override Value All(GraphBuilder graph) => graph.Concat(
        [.. Enumerable.Range(0, Count).Select(expert => graph.Reshape(Read(graph, graph.Int64s(expert)), [1, Rows, Columns], [1, Rows, Columns]))], 0, Count);

    /// <inheritdoc/>
    public override Value Of(GraphBuilder graph, Value experts) => graph.Gather(All(graph), experts);

    /// <summary>The pieces of one expert, of a region that does not hold it none: [1] 64-bit → [pieces, piece], float32.</summary>
    private Value Part(GraphBuilder graph, int region, Value expert)
    {
        (Value all, IReadOnlyList<long> starts) = (regions[region].Pieces, regions[region].Starts);
        long count = Rows * Columns / all.Shape[1].Size;
        Value numbers = graph.Int64Table($"numbers.{count}", [.. Enumerable.Range(0, (int)count).Select(i => (long)i)]); // [pieces]
        if (regions.Count > 1)
        {
            Value here = graph.Gather(graph.Int64Table($"{name}.pieces.{region}", [.. starts.Select(start => start < 0 ? 0 : count)]), expert); // [1]
            numbers = graph.Slice(numbers, graph.Int64s(0), here, 0, graph.Symbol("expert_pieces")); // [pieces] or [0]
        }

        Value start = graph.Gather(graph.Int64Table($"{name}.starts.{region}", [.. starts]), expert); // [1]
        return graph.Cast(graph.Gather(all, graph.Add(numbers, start)), ElementType.Float32); // [pieces, piece]
    }
}
