using System.Numerics.Tensors;
using MLNetLora.Onnx;

namespace MLNetLora.Quantization;

/// <summary>
/// A weight [outputs, inputs] as whole numbers in blocks along its inputs, w ≈ scale · (q − zero), as ONNX Runtime's MatMulNBits reads it; the last
/// block is padded.
/// 8 bits: scale = absmax / 127 and zero = 128, so that no weight is off by more than half a scale. 4 bits: the range from the lowest to the highest
/// weight in 15 steps, then narrowed as long as the squared error of the block falls.
/// </summary>
/// <param name="Bits">8 or 4.</param>
/// <param name="Size">Weights per block, a power of two.</param>
internal readonly record struct BlockFormat(int Bits, int Size)
{
    private const int Narrowings = 8;
    private const float NarrowingStep = 0.04f;

    /// <summary>What scales are stored in: float32, or the 16-bit type that is computed in on a device. They are rounded before anything is divided by them,
    /// and upwards, so that the whole numbers are those of the scale that is stored and none is too large.</summary>
    public ElementType ScaleType { get; init; } = ElementType.Float32;

    /// <summary>Blocks of a row.</summary>
    public int Blocks(int inputs) => (inputs + Size - 1) / Size;

    /// <summary>Bytes of a block.</summary>
    public int BlockBytes => Size * Bits / 8;

    /// <summary>Whether blocks have a zero point of their own; the others' is the middle, 2^(bits−1).</summary>
    public bool HasZeroPoints => Bits == 4;

    /// <summary>Bytes of a row's zero points: two to a byte.</summary>
    public int ZeroPointBytes(int inputs) => (Blocks(inputs) + 1) / 2;

    /// <summary>Quantizes one row.</summary>
    /// <param name="row">[inputs].</param>
    /// <param name="packed">[blocks, bytes]; 4-bit weights lie two to a byte, the first in the low half.</param>
    /// <param name="scales">[blocks].</param>
    /// <param name="zeroPoints">[(blocks + 1) / 2] with 4 bits, empty with 8.</param>
    public void Quantize(ReadOnlySpan<float> row, Span<byte> packed, Span<float> scales, Span<byte> zeroPoints)
    {
        Span<float> block = stackalloc float[Size];
        Span<float> q = stackalloc float[Size];
        zeroPoints.Clear();
        for (int i = 0; i < scales.Length; i++)
        {
            ReadOnlySpan<float> part = row.Slice(i * Size, Math.Min(Size, row.Length - (i * Size)));
            part.CopyTo(block);
            block[part.Length..].Clear(); // meets inputs that are padded with zeros
            Span<byte> bytes = packed.Slice(i * BlockBytes, BlockBytes);
            if (Bits == 8)
            {
                scales[i] = Stored(Math.Max(Math.Abs(TensorPrimitives.MaxMagnitude<float>(part)) / 127f, float.Epsilon));
                ToIntegers(block, scales[i], 128, 255, q);
                TensorPrimitives.ConvertTruncating<float, byte>(q, bytes);
            }
            else
            {
                (scales[i], int zero) = Fit(part, q);
                ToIntegers(block, scales[i], zero, 15, q);
                for (int b = 0; b < bytes.Length; b++)
                {
                    bytes[b] = (byte)((int)q[2 * b] | ((int)q[(2 * b) + 1] << 4));
                }

                zeroPoints[i / 2] |= (byte)(zero << (4 * (i % 2)));
            }
        }
    }

    /// <summary>Writes scales as they are stored.</summary>
    /// <param name="scales">Scales that <see cref="Quantize"/> gave.</param>
    /// <param name="memory">All scales.</param>
    /// <param name="first">With which they begin.</param>
    public void Store(ReadOnlySpan<float> scales, TensorMemory memory, long first)
    {
        switch (ScaleType)
        {
            case ElementType.Float32:
                scales.CopyTo(memory.Slice<float>(first, scales.Length));
                break;
            case ElementType.Float16:
                TensorPrimitives.ConvertToHalf(scales, memory.Slice<Half>(first, scales.Length));
                break;
            default:
                Span<ushort> halves = memory.Slice<ushort>(first, scales.Length);
                for (int i = 0; i < halves.Length; i++)
                {
                    halves[i] = (ushort)(BitConverter.SingleToUInt32Bits(scales[i]) >> 16); // the rest is zeros
                }

                break;
        }
    }

    // Least squared error among ranges that are cut at both ends; a range always holds zero, which padding and pruned weights need.
    private (float Scale, int Zero) Fit(ReadOnlySpan<float> block, Span<float> scratch)
    {
        float low = Math.Min(0, TensorPrimitives.Min(block));
        float high = Math.Max(0, TensorPrimitives.Max(block));
        if (!float.IsFinite(high - low))
        {
            return (float.NaN, 8); // to be seen in the answers, which then say where it comes from
        }

        (float Scale, int Zero, float Error) best = (Stored(float.Epsilon), 8, float.PositiveInfinity);
        for (int i = 0; i < Narrowings; i++)
        {
            float scale = Stored(Math.Max((high - low) * (1 - (i * NarrowingStep)) / 15f, float.Epsilon));
            int zero = Math.Clamp((int)MathF.Round(-low * (1 - (i * NarrowingStep)) / scale), 0, 15);
            Span<float> error = scratch[..block.Length];
            ToIntegers(block, scale, zero, 15, error);
            TensorPrimitives.Subtract(error, zero, error);
            TensorPrimitives.Multiply(error, scale, error);
            TensorPrimitives.Subtract(error, block, error);
            float sum = TensorPrimitives.SumOfSquares<float>(error);
            if (sum < best.Error)
            {
                best = (scale, zero, sum);
            }
        }

        return (best.Scale, best.Zero);
    }

    /// <summary>The smallest number of <see cref="ScaleType"/> that is not less.</summary>
    private float Stored(float scale)
    {
        if (!float.IsFinite(scale) || ScaleType == ElementType.Float32)
        {
            return scale;
        }

        if (ScaleType == ElementType.BFloat16)
        {
            float up = BitConverter.UInt32BitsToSingle((BitConverter.SingleToUInt32Bits(scale) + 0xFFFF) & 0xFFFF0000);
            return float.IsFinite(up) ? up : BitConverter.UInt32BitsToSingle(0x7F7F0000); // the largest there is
        }

        Half half = (Half)Math.Min(scale, (float)Half.MaxValue);
        return (float)((float)half < scale && half < Half.MaxValue ? Half.BitIncrement(half) : half);
    }

    private static void ToIntegers(ReadOnlySpan<float> block, float scale, int zero, int most, Span<float> q)
    {
        TensorPrimitives.Divide(block, scale, q);
        TensorPrimitives.Round(q, q);
        TensorPrimitives.Add(q, zero, q);
        TensorPrimitives.Clamp(q, 0, most, q);
    }
}
