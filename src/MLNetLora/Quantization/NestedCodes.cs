using System.Numerics.Tensors;

namespace MLNetLora.Quantization;

/// <summary>
/// The absmax values of a weight in 8 bits (double quantization, QLoRA section 3): their mean is subtracted, and in blocks each is the nearest of 256 levels of
/// the block's largest. The levels are bitsandbytes' dynamic map (Dettmers 2015, arXiv:1511.04561): a sign, a decimal exponent in unary and a linear fraction.
/// </summary>
internal sealed class NestedCodes
{
    private static readonly float[] s_map = MakeMap();

    /// <summary>Quantizes.</summary>
    /// <param name="absmax">[blocks].</param>
    /// <param name="blockSize">Values that share a level's factor.</param>
    public NestedCodes(float[] absmax, int blockSize)
    {
        Offset = (float)(absmax.Sum(value => (double)value) / absmax.Length);
        Codes = new byte[absmax.Length];
        AbsMax = new float[(absmax.Length + blockSize - 1) / blockSize];
        float[] centered = [.. absmax.Select(value => value - Offset)];
        for (int i = 0; i < AbsMax.Length; i++)
        {
            Span<float> block = centered.AsSpan(i * blockSize, Math.Min(blockSize, centered.Length - (i * blockSize)));
            AbsMax[i] = Math.Abs(TensorPrimitives.MaxMagnitude<float>(block));
            for (int j = 0; j < block.Length; j++)
            {
                Codes[(i * blockSize) + j] = Nearest(AbsMax[i] > 0 ? block[j] / AbsMax[i] : 0);
            }
        }
    }

    /// <summary>The 256 levels from −0.99 to 1, rising.</summary>
    public static ReadOnlySpan<float> Map => s_map;

    /// <summary>[blocks].</summary>
    public byte[] Codes { get; }

    /// <summary>[⌈blocks / block size⌉].</summary>
    public float[] AbsMax { get; }

    /// <summary>The mean.</summary>
    public float Offset { get; }

    private static byte Nearest(float value)
    {
        int above = Array.BinarySearch(s_map, value);
        if (above >= 0)
        {
            return (byte)above;
        }

        above = ~above;
        return (byte)(above == 0 ? 0 : above == s_map.Length || value - s_map[above - 1] <= s_map[above] - value ? above - 1 : above);
    }

    private static float[] MakeMap()
    {
        const int Exponents = 7;
        List<float> levels = [0, 1];
        for (int i = 0; i < Exponents; i++)
        {
            // The middles of equal parts of 0.1 to 1, twice as many for each larger exponent.
            int parts = 1 << i;
            for (int j = 0; j < parts; j++)
            {
                double middle = 0.1 + (0.9 * (j + 0.5) / parts);
                float level = (float)(Math.Pow(10, i - Exponents + 1) * middle);
                levels.Add(level);
                levels.Add(-level);
            }
        }

        return [.. levels.Order()];
    }
}
