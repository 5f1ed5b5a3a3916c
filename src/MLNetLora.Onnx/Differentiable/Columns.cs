namespace MLNetLora.Onnx.Differentiable;

/// <summary>y₁, y₂, … = the columns of x in parts, side by side. dx = dy₁, dy₂, … side by side.</summary>
internal static class Columns
{
    /// <summary>Emits the split into equal parts.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, parts·n].</param>
    /// <param name="parts">Number of parts.</param>
    /// <returns>[rows, n] each.</returns>
    public static Value[] Split(Tape tape, Value x, int parts) => Split(tape, x, [.. Enumerable.Repeat(x.Shape[1].Size / parts, parts)]);

    /// <summary>Emits the split into parts of these sizes.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, n₁ + n₂ + …].</param>
    /// <param name="sizes">n₁, n₂, ….</param>
    /// <returns>[rows, n₁], [rows, n₂], ….</returns>
    public static Value[] Split(Tape tape, Value x, long[] sizes)
    {
        GraphBuilder g = tape.Graph;
        Value[] ys = g.Split(x, g.Int64s(sizes), [.. sizes.Select(size => (Dimension)size)], 1); // [rows, n]
        return tape.Record(ys, [x], dys => tape.AddGradient(x, () => // [rows, n₁ + n₂ + …]
            g.Concat([.. dys.Select((dy, i) => dy ?? g.Zeros(g.Shape(ys[i]), ys[i].Shape))], 1, x.Shape[1])));
    }
}
