namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// Some rows of a frozen table that are trained and stand in the table's place, R [n, width] for the row numbers i₁ … iₙ (PEFT's trainable tokens). With M the
/// matrix of ones where a token is one of them, [tokens, n]:  E'[token] = M R + E[token]∘(1 − M 1),  dR = Mᵀ dy.
/// </summary>
/// <param name="rows">R, [n, width].</param>
/// <param name="numbers">Their numbers in the table, each once.</param>
internal sealed class TrainedRows(Weight rows, long[] numbers)
{
    /// <summary>R; its gradient is recorded under its source.</summary>
    public Weight Rows => rows;

    /// <summary>M: [tokens] 64-bit → [tokens, n].</summary>
    public Value Matches(GraphBuilder g, Value tokens) => g.Cast(g.Equal(g.UnsqueezeLast(tokens), g.Int64s(numbers)), ElementType.Float32);

    /// <summary>What the table gives for tokens, with the trained rows in their place.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="looked">[tokens, width], from the frozen table.</param>
    /// <param name="matches">[tokens, n], see <see cref="Matches"/>.</param>
    /// <returns>[tokens, width].</returns>
    public Value Replace(GraphBuilder g, Value looked, Value matches)
    {
        Value others = g.Sub(g.Float(1f), g.ReduceMax(matches, [-1], keepAxes: true)); // [tokens, 1]
        return g.Gemm(matches, rows.Read(g), g.Mul(looked, others)); // [tokens, n] [n, width] -> [tokens, width]
    }

    /// <summary>Some rows of the table, with those of them that are trained in their place.</summary>
    /// <param name="part">Rows of the frozen table, [size, width].</param>
    /// <param name="first">Number of the first of them.</param>
    /// <returns>A weight to be read alone; the part itself where none of its rows is trained.</returns>
    public Weight Patch(Weight part, long first)
    {
        long[] own = Within(first, part.Source.Shape[0].Size);
        return own.Length == 0 ? part : new Patched(part, rows, own, [.. own.Select(i => numbers[i] - first)]);
    }

    /// <summary>Which of the trained rows, by their places in R, lie in a part of the table.</summary>
    public long[] Within(long first, long size) =>
        [.. Enumerable.Range(0, numbers.Length).Where(i => numbers[i] >= first && numbers[i] < first + size).Select(i => (long)i)];

    /// <summary>Columns of a matrix over a part of the table, for the trained rows in it: [m, size] → [m, rows in it].</summary>
    public Value Columns(GraphBuilder g, Value x, long first, long[] within) => g.GatherColumns(x, [.. within.Select(i => numbers[i] - first)]);

    /// <summary>Scores of the output layer, x Eᵀ, with those of trained rows in their place.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="scores">[m, table].</param>
    /// <param name="x">[m, width].</param>
    public Value Scores(GraphBuilder g, Value scores, Value x)
    {
        Value own = g.Gemm(x, rows.Read(g), transB: true); // [m, width] [n, width]ᵀ -> [m, n]
        return g.ScatterColumns(scores, g.Int64s(numbers), own);
    }

    private sealed class Patched(Weight part, Weight rows, long[] own, long[] places) : Weight(part.Source)
    {
        public override Value Read(GraphBuilder graph)
        {
            Value mine = graph.Gather(rows.Read(graph), graph.Int64s(own)); // [k, width]
            return graph.ScatterRows(part.Read(graph), graph.UnsqueezeLast(graph.Int64s(places)), mine); // [size, width]
        }

        public override Value Product(GraphBuilder graph, Value x, Weight? bias = null) => graph.Gemm(x, Read(graph), bias?.Read(graph), transB: true);

        public override Value InputGradient(GraphBuilder graph, Value dy, Value? sum) => graph.Gemm(dy, Read(graph), sum);
    }
}
