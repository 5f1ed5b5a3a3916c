namespace MLNetLora.Onnx;

/// <summary>One matrix of each expert of a layer, frozen.</summary>
/// <param name="count">How many experts.</param>
/// <param name="rows">Outputs.</param>
/// <param name="columns">Inputs.</param>
internal abstract class ExpertWeight(int count, long rows, long columns)
{
    /// <summary>How many experts.</summary>
    public int Count => count;

    /// <summary>Outputs.</summary>
    public long Rows => rows;

    /// <summary>Inputs.</summary>
    public long Columns => columns;

    /// <summary>The matrix of one expert: [1] 64-bit → [out, in], float32.</summary>
    public abstract Value Read(GraphBuilder graph, Value expert);

    /// <summary>All matrices: [experts, out, in], float32.</summary>
    public abstract Value All(GraphBuilder graph);

    /// <summary>Some matrices: [n] 64-bit → [n, out, in], float32.</summary>
    public abstract Value Of(GraphBuilder graph, Value experts);
}
