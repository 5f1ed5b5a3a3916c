namespace MLNetLora.Onnx.Differentiable;

/// <summary>
/// A dropout mask of [rows, columns], of which a run is told bits or what they are made from. A byte for each number would be 2 GB for all linear layers of a
/// 0.5B model at 4 x 2048 tokens.
/// </summary>
/// <param name="Rows">
/// [rows, ⌈columns / 8⌉] unsigned bytes, of which bit i of byte j is column 8j + i, set where the input is kept; or with <paramref name="Columns"/> [rows, 1]
/// 64-bit, a random number for each row.
/// </param>
/// <param name="Columns">The mask is made in the graph; null: it is given.</param>
internal sealed record DropoutMask(Value Rows, DropoutColumns? Columns = null)
{
    private const int Bits = 8;

    /// <summary>Bytes of a row.</summary>
    public static int RowBytes(int columns) => (columns + Bits - 1) / Bits;

    /// <summary>The mask as zeros and ones. Eight at a time are looked up in a table.</summary>
    /// <param name="g">Graph.</param>
    /// <param name="columns">How many columns the mask has.</param>
    /// <returns>[rows, columns], float32.</returns>
    public Value Numbers(GraphBuilder g, Dimension columns)
    {
        int bytes = RowBytes((int)columns.Size);
        Value spread = Columns is null
            ? g.Gather(g.Table("bits", [.. Enumerable.Range(0, 256 * Bits).Select(i => (float)((i / Bits >> (i % Bits)) & 1))], Bits),
                g.Cast(Rows, ElementType.Int32)) // [256, 8] at [rows, bytes] -> [rows, bytes, 8]
            : g.Gather(Columns.Table(g), Columns.Numbers(g, Rows, bytes)); // [65536, 8] at [rows, bytes] -> [rows, bytes, 8]
        long padded = (long)bytes * Bits;
        Value numbers = g.Reshape(spread, [-1, padded], [Rows.Shape[0], padded]); // [rows, 8 · bytes]
        return padded == columns.Size ? numbers : g.Slice(numbers, g.Int64s(0), g.Int64s(columns.Size), 1, columns); // [rows, columns]
    }
}

/// <summary>
/// What a graph makes a mask from, beside a random number for each row: so that a device gets two short vectors in a run, and not the bits of all masks.
/// Row and column give a number of 64 bits, r·a + c·b; the upper half of its square is mixed well (as in the middle-square generators), and 16 bits of that
/// choose eight zeros and ones in a table. Each layer has factors a and b of its own.
/// </summary>
/// <param name="Counters">[1, columns of the widest mask / 8], 64-bit: a random number for each column of eight.</param>
/// <param name="Layer">Number of the mask.</param>
/// <param name="Probability">p, of zeros, resolved to 1/65536.</param>
internal sealed record DropoutColumns(Value Counters, int Layer, double Probability)
{
    private const int Entries = 1 << 16;
    private const int Bits = 8;

    /// <summary>16 random bits: [rows, 1] → [rows, bytes], 64-bit.</summary>
    public Value Numbers(GraphBuilder g, Value rows, int bytes)
    {
        Value columns = g.Slice(Counters, g.Int64s(0), g.Int64s(bytes), 1, bytes); // [1, bytes]
        Value mixed = g.Add(g.Mul(rows, g.Int64(Factor(2 * Layer))), g.Mul(columns, g.Int64(Factor((2 * Layer) + 1)))); // [rows, bytes]
        Value upper = g.Div(g.Mul(mixed, mixed), g.Int64(1L << 47)); // -65535 ... 65535, zero twice as often as others
        return g.Abs(upper); // 0 ... 65535, all as often
    }

    /// <summary>Eight zeros and ones for each number, [65536, 8]: in each column exactly a share of p are zeros, in an order of its own.</summary>
    public Value Table(GraphBuilder g)
    {
        int zeros = (int)Math.Round(Probability * Entries);
        string name = $"dropped.{zeros}";
        if (g.FindTable(name) is { } known)
        {
            return known;
        }

        float[] table = new float[Entries * Bits];
        for (int bit = 0; bit < Bits; bit++)
        {
            int[] order = [.. Enumerable.Range(0, Entries)];
            ulong state = (ulong)bit;
            for (int i = Entries - 1; i > 0; i--)
            {
                int j = (int)(SplitMix.Next(ref state) % (ulong)(i + 1));
                (order[i], order[j]) = (order[j], order[i]);
            }

            for (int i = 0; i < Entries; i++)
            {
                table[(i * Bits) + bit] = order[i] < zeros ? 0 : 1;
            }
        }

        return g.Table(name, table, Bits);
    }

    /// <summary>An odd number of 64 bits, so that no bit is lost by multiplying with it.</summary>
    private static long Factor(int index)
    {
        ulong state = (ulong)index;
        return (long)(SplitMix.Next(ref state) | 1);
    }
}
