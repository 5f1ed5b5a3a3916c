namespace MLNetLora.Onnx.Differentiable;

/// <summary>y = x[indices]: some rows of a matrix. dx has dy in those rows and zeros elsewhere.</summary>
internal static class Rows
{
    /// <summary>Emits the choice of rows.</summary>
    /// <param name="tape">Tape.</param>
    /// <param name="x">[rows, n].</param>
    /// <param name="indices">[chosen], 64-bit; a row may be named twice only where its gradient is zero (padding).</param>
    /// <returns>[chosen, n].</returns>
    public static Value Apply(Tape tape, Value x, Value indices)
    {
        GraphBuilder g = tape.Graph;
        Value y = g.Gather(x, indices); // [chosen, n]
        return tape.Record(y, [x], dy => tape.AddGradient(x, () => g.RowsOfZeros(g.Shape(x), x.Shape, indices, dy))); // [rows, n]
    }
}
