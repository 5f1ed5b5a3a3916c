namespace MLNetLora.Onnx.Differentiable;

/// <summary>y = E[ids]: one row of the table per token. dE[v] = Σ of dy over the positions where ids = v.</summary>
internal static class Embedding
{
    /// <summary>Emits the lookup; a 16-bit table is looked up first and cast after, so that it is never cast whole.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="table">[vocabulary, hidden].</param>
    /// <param name="ids">[rows], 64-bit.</param>
    /// <returns>[rows, hidden], float32.</returns>
    public static Value Apply(Tape tape, Weight table, Value ids)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Cast(g.Gather(table.Source, ids), ElementType.Float32); // [rows, hidden]
        return tape.Record(y, [table.Source], dy => tape.AddParameterGradient(table.Source, () =>
            g.ScatterAdd(g.Zeros(g.Shape(table.Source), table.Source.Shape), g.UnsqueezeLast(ids), dy))); // [vocabulary, hidden]
    }
}
