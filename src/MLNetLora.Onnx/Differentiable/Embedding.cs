namespace MLNetLora.Onnx.Differentiable;

/// <summary>y = E[ids]: one row of the table per token. dE[v] = Σ of dy over the positions where ids = v.</summary>
internal static class Embedding
{
    /// <summary>Emits the lookup.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="table">[vocabulary, hidden].</param>
    /// <param name="ids">[rows], 64-bit.</param>
    /// <param name="trained">Rows that are trained in a frozen table's place; null for none.</param>
    /// <returns>[rows, hidden], float32.</returns>
    public static Value Apply(Tape tape, Weight table, Value ids, TrainedRows? trained = null)
    {
        GraphBuilder g = tape.Graph;
        Value y = table.Rows(g, ids); // [rows, hidden]
        if (trained is not null)
        {
            Value matches = trained.Matches(g, ids); // [rows, n]
            return tape.Record(trained.Replace(g, y, matches), [trained.Rows.Source], dy => tape.AddParameterGradient(
                trained.Rows.Source, () => g.Gemm(matches, dy, transA: true))); // [rows, n]ᵀ [rows, hidden] -> [n, hidden]
        }

        return tape.Record(y, [table.Source], dy => tape.AddParameterGradient(table.Source, () =>
            g.ScatterAdd(g.Zeros(g.Shape(table.Source), table.Source.Shape), g.UnsqueezeLast(ids), dy))); // [vocabulary, hidden]
    }
}
