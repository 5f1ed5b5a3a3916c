namespace MLNetLora.Onnx;

/// <summary>A stretch of a file with matrices of experts in it.</summary>
/// <param name="Numbers">[count], float32 or 16 bits.</param>
/// <param name="Starts">Where the matrix of each expert begins; −1 for one that lies elsewhere.</param>
internal sealed record ExpertRegion(Value Numbers, IReadOnlyList<long> Starts);

/// <summary>
/// One matrix of each expert of a layer, frozen, where it lies: a run copies that of one expert at a time, so that the experts are never stacked in memory and
/// a loop over them is a few nodes, however many they are.
/// </summary>
/// <param name="name">What the tables of this weight are called in the graph.</param>
/// <param name="regions">Where the matrices lie; several where a border of files goes through the layer.</param>
/// <param name="rows">Outputs.</param>
/// <param name="columns">Inputs.</param>
internal sealed class ExpertWeight(string name, IReadOnlyList<ExpertRegion> regions, long rows, long columns)
{
    /// <summary>How many experts.</summary>
    public int Count => regions[0].Starts.Count;

    /// <summary>Outputs.</summary>
    public long Rows => rows;

    /// <summary>Inputs.</summary>
    public long Columns => columns;

    /// <summary>The matrix of one expert: [1] 64-bit → [out, in], float32.</summary>
    public Value Read(GraphBuilder graph, Value expert)
    {
        // Of a region that does not hold the expert nothing is taken.
        Value[] parts = [.. regions.Select((region, i) =>
        {
            long[] ends = [.. region.Starts.Select(start => start < 0 ? 0 : start + (rows * columns))];
            Value start = graph.Gather(graph.Int64Table($"{name}.starts.{i}", [.. region.Starts.Select(at => Math.Max(at, 0))]), expert); // [1]
            Value end = graph.Gather(graph.Int64Table($"{name}.ends.{i}", ends), expert); // [1]
            Dimension size = regions.Count == 1 ? rows * columns : graph.Symbol("expert_part");
            return graph.Cast(graph.Slice(region.Numbers, start, end, 0, size), ElementType.Float32); // [out · in] or [0]
        })];
        Value flat = parts.Length == 1 ? parts[0] : graph.Concat(parts, 0, rows * columns); // [out · in]
        return graph.Reshape(flat, [rows, columns], [rows, columns]);
    }
}
