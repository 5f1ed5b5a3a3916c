namespace MLNetLora.Checkpoints;

/// <summary>The two 4-bit number formats of bitsandbytes.</summary>
internal enum FourBitType
{
    /// <summary>Sixteen levels at the quantiles of a normal distribution (Dettmers et al. 2023, QLoRA, arXiv:2305.14314).</summary>
    Nf4,

    /// <summary>A sign, two bits of exponent, one of mantissa.</summary>
    Fp4,
}

/// <summary>
/// Numbers of 4 bits: a weight is level[code] · absmax of its block. Blocks are flat over the rows of a matrix; two codes share a byte, the first in the high
/// half (bitsandbytes, functional.py: quantize_4bit; ONNX Runtime's MatMulBnb4 has the same levels and order).
/// </summary>
internal static class FourBitCode
{
    private const int Buckets = 4096; // over −1 to 1: finer than half the distance of two levels

    private static readonly float[] s_nf4 =
    [
        -1f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0f,
        0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f,
        0.7229568362236023f, 1f,
    ];

    private static readonly float[] s_fp4 =
        [0f, 0.0052083334f, 0.6666667f, 1f, 0.33333334f, 0.5f, 0.16666667f, 0.25f,
            -0f, -0.0052083334f, -0.6666667f, -1f, -0.33333334f, -0.5f, -0.16666667f, -0.25f];

    private static readonly Nearest s_nearestNf4 = new(s_nf4);
    private static readonly Nearest s_nearestFp4 = new(s_fp4);

    /// <summary>The sixteen levels by code.</summary>
    public static ReadOnlySpan<float> Levels(FourBitType type) => type == FourBitType.Nf4 ? s_nf4 : s_fp4;

    /// <summary>Quantizes whole blocks.</summary>
    /// <param name="type">The format.</param>
    /// <param name="values">[blocks · size], size even.</param>
    /// <param name="packed">[blocks · size / 2].</param>
    /// <param name="absmax">[blocks].</param>
    public static void Quantize(FourBitType type, ReadOnlySpan<float> values, Span<byte> packed, Span<float> absmax)
    {
        Nearest nearest = type == FourBitType.Nf4 ? s_nearestNf4 : s_nearestFp4;
        int size = values.Length / absmax.Length;
        for (int b = 0; b < absmax.Length; b++)
        {
            ReadOnlySpan<float> block = values.Slice(b * size, size);
            absmax[b] = Math.Abs(System.Numerics.Tensors.TensorPrimitives.MaxMagnitude(block)); // NaN wins
            float inverse = absmax[b] > 0 ? 1 / absmax[b] : 0;
            Span<byte> bytes = packed.Slice(b * size / 2, size / 2);
            for (int i = 0; i < bytes.Length; i++)
            {
                bytes[i] = (byte)((nearest.Code(block[2 * i] * inverse) << 4) | nearest.Code(block[(2 * i) + 1] * inverse));
            }
        }
    }

    /// <summary>Dequantizes a stretch of one block.</summary>
    /// <param name="type">The format.</param>
    /// <param name="packed">The bytes that hold the stretch.</param>
    /// <param name="first">The first code in them: 0 or 1.</param>
    /// <param name="absmax">Of the block.</param>
    /// <param name="values">Receives the stretch.</param>
    public static void Dequantize(FourBitType type, ReadOnlySpan<byte> packed, int first, float absmax, Span<float> values)
    {
        ReadOnlySpan<float> levels = Levels(type);
        for (int i = 0; i < values.Length; i++)
        {
            int at = first + i;
            values[i] = levels[(at & 1) == 0 ? packed[at >> 1] >> 4 : packed[at >> 1] & 15] * absmax;
        }
    }

    /// <summary>Finds the nearest level.</summary>
    private sealed class Nearest
    {
        private readonly float[] _borders; // between neighbours, and nothing above the last
        private readonly byte[] _codes; // by size
        private readonly byte[] _first = new byte[Buckets + 1]; // of each bucket's values the first neighbour that can be nearest

        public Nearest(float[] levels)
        {
            // FP4 has two zeros: as with bitsandbytes, what is just below takes the first code, what is just above the second.
            int[] order = [.. Enumerable.Range(0, levels.Length).OrderBy(code => levels[code]).ThenBy(code => code)];
            _codes = [.. order.Select(code => (byte)code)];
            _borders = [.. order.Zip(order.Skip(1), (a, b) => (float)(((double)levels[a] + levels[b]) / 2)), float.PositiveInfinity];
            for (int bucket = 0; bucket <= Buckets; bucket++)
            {
                float least = ((bucket - 1) * (2f / Buckets)) - 1;
                _first[bucket] = (byte)_borders.TakeWhile(border => border < least).Count();
            }
        }

        public int Code(float value)
        {
            int bucket = (int)Math.Clamp((value + 1) * (Buckets / 2), 0, Buckets); // NaN becomes 0
            int i = _first[bucket];
            while (value > _borders[i])
            {
                i++;
            }

            return _codes[i];
        }
    }
}
