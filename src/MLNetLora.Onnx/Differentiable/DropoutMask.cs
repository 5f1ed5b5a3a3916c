namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// A dropout mask as bits: [rows, ⌈columns / 8⌉] unsigned bytes, of which bit i of byte j is column 8j + i, set where the input is kept. A byte for each would
/// be 2 GB for all linear layers of a 0.5B model at 4 x 2048 tokens.
/// </summary>
internal static class DropoutMask
{
    private const int Bits = 8;

    /// <summary>Bytes of a row.</summary>
    public static int RowBytes(int columns) => (columns + Bits - 1) / Bits;

    /// <summary>The mask as zeros and ones: each byte looks up its eight numbers in a table.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="packed">[rows, ⌈columns / 8⌉].</param>
    /// <param name="columns">How many columns the mask has.</param>
    /// <returns>[rows, columns], float32.</returns>
    public static Value Numbers(GraphBuilder g, Value packed, Dimension columns)
    {
        long padded = RowBytes((int)columns.Size) * Bits;
        Value table = g.Table("bits", [.. Enumerable.Range(0, 256 * Bits).Select(i => (float)((i / Bits >> (i % Bits)) & 1))], Bits); // [256, 8]
        Value spread = g.Gather(table, g.Cast(packed, ElementType.Int32)); // [rows, bytes] -> [rows, bytes, 8]
        Value numbers = g.Reshape(spread, [-1, padded], [packed.Shape[0], padded]); // [rows, 8 · bytes]
        return padded == columns.Size ? numbers : g.Slice(numbers, g.Int64s(0), g.Int64s(columns.Size), 1, columns); // [rows, columns]
    }
}
