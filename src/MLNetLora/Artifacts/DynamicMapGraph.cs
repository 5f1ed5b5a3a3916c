using MLNetLora.Onnx;
using MLNetLora.Quantization;

namespace MLNetLora.Artifacts;

/// <summary>
/// <see cref="DynamicMap"/> as a graph of operators that a GPU has kernels for, with the same codes and absmax to the last bit. ONNX has no operator that
/// finds the nearest level; a code is the number of bounds between levels that a number exceeds, and that is looked up. Cells of equal width over the signed
/// square roots of the numbers hold at most one bound each, since levels stand the closer the smaller they are: so a cell knows a code, and the one bound
/// that decides between it and the next.
/// </summary>
internal static class DynamicMapGraph
{
    private const int Cells = 1 << 13;

    // By how much of a cell a root may be off, in a table for it and everywhere: rounding takes a thousandth.
    private const double Margin = 0.25;

    /// <summary>The numbers of blocks: level times absmax.</summary>
    /// <param name="g">The graph.</param>
    /// <param name="map">The levels.</param>
    /// <param name="codes">[blocks, 256], unsigned 8-bit.</param>
    /// <param name="absmax">[blocks, 1].</param>
    /// <returns>[blocks, 256].</returns>
    public static Value Dequantize(GraphBuilder g, DynamicMap map, Value codes, Value absmax)
    {
        Value levels = g.FloatTable($"{Name(map)} levels", map.Levels.ToArray()); // [256]
        return g.Mul(g.Gather(levels, g.Cast(codes, ElementType.Int32)), absmax);
    }

    /// <summary>Quantizes blocks.</summary>
    /// <param name="g">The graph.</param>
    /// <param name="map">The levels; numbers of an unsigned one are not below zero.</param>
    /// <param name="numbers">[blocks, 256].</param>
    /// <returns>[blocks, 256], unsigned 8-bit, and [blocks, 1].</returns>
    public static (Value Codes, Value AbsMax) Quantize(GraphBuilder g, DynamicMap map, Value numbers)
    {
        Value absmax = g.Max(Largest(g, map.IsSigned ? g.Abs(numbers) : numbers), g.Float(DynamicMap.LeastAbsMax)); // [blocks, 1]
        Value scaled = g.Mul(numbers, g.Div(g.Float(1f), absmax)); // [blocks, 256]
        Value place = map.IsSigned // [blocks, 256], 0 to Cells
            ? g.Add(g.Mul(g.Mul(g.Sign(scaled), g.Sqrt(g.Abs(scaled))), g.Float(Cells / 2)), g.Float(Cells / 2))
            : g.Mul(g.Sqrt(scaled), g.Float(Cells));
        Value cell = g.Max(g.Cast(place, ElementType.Int32), g.Int32(0)); // [blocks, 256]; NaN is no number of a cell

        (byte[] low, byte[] high, float[] bounds) = Table(map);
        Value isAbove = g.Greater(scaled, g.Gather(g.FloatTable($"{Name(map)} bounds", bounds), cell)); // [blocks, 256]
        Value lower = g.Gather(g.UInt8Table($"{Name(map)} low", low), cell); // [blocks, 256]
        Value upper = g.Gather(g.UInt8Table($"{Name(map)} high", high), cell); // [blocks, 256]
        return (g.Where(isAbove, upper, lower), absmax);
    }

    /// <summary>The largest number of each block, NaN where there is one: [blocks, 256] → [blocks, 1]. Not ReduceMax, whose kernel needs cuDNN.</summary>
    private static Value Largest(GraphBuilder g, Value x)
    {
        int size = DynamicMap.BlockSize;
        foreach (int parts in (ReadOnlySpan<int>)[8, 8, 4]) // a kernel takes up to eight
        {
            size /= parts;
            Value[] split = g.Split(x, parts, size, axis: 1); // [blocks, size] each
            x = g.Max(split);
        }

        return x;
    }

    /// <summary>By cell: the code of numbers up to the bound, that of numbers above it, the bound (infinite behind the last).</summary>
    private static (byte[] Low, byte[] High, float[] Bounds) Table(DynamicMap map)
    {
        ReadOnlySpan<float> bounds = map.Bounds;
        double[] places = new double[bounds.Length];
        for (int i = 0; i < places.Length; i++)
        {
            double root = Math.CopySign(Math.Sqrt(Math.Abs(bounds[i])), bounds[i]);
            places[i] = map.IsSigned ? (root * Cells / 2) + (Cells / 2) : root * Cells;
        }

        byte[] low = new byte[Cells + 1];
        byte[] high = new byte[low.Length];
        float[] between = new float[low.Length];
        for (int cell = 0; cell < low.Length; cell++)
        {
            int below = places.Count(place => place < cell - Margin);
            if (places.Count(place => place < cell + 1 + Margin) > below + 1)
            {
                throw new InvalidOperationException($"More than one bound of the {Name(map)} map is in cell {cell} of {Cells}.");
            }

            (low[cell], high[cell], between[cell]) = ((byte)below, (byte)Math.Min(below + 1, byte.MaxValue), bounds[below]);
        }

        return (low, high, between);
    }

    private static string Name(DynamicMap map) => map.IsSigned ? "signed" : "unsigned";
}
