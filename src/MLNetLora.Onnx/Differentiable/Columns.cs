namespace MLNetLora.Onnx.Differentiable;

/// <summary>y₁, y₂, … = the columns of x in equal parts, side by side. dx = dy₁, dy₂, … side by side.</summary>
internal static class Columns
{
    /// <summary>Emits the split.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, parts·n].</param>
    /// <param name="parts">Number of parts.</param>
    /// <returns>[rows, n] each.</returns>
    public static Value[] Split(Tape tape, Value x, int parts)
    {
        GraphBuilder g = tape.Graph;
        Value[] ys = g.Split(x, parts, x.Shape[1].Size / parts, 1); // [rows, n]
        return tape.Record(ys, [x], dys => tape.AddGradient(x, () => // [rows, parts·n]
            g.Concat([.. dys.Select((dy, i) => dy ?? g.Zeros(g.Shape(ys[i]), ys[i].Shape))], 1, x.Shape[1])));
    }
}
