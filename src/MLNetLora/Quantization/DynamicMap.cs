using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace MLNetLora.Quantization;

/// <summary>
/// bitsandbytes' dynamic map of 8 bits (create_dynamic_map; Dettmers 2015, arXiv:1511.04561): 256 levels made of a decimal exponent in unary and a linear
/// fraction, with a sign or without. Of the seven decades below 1 each has twice as many levels as the one below it. The numbers of a block are the levels
/// nearest to them, times the block's absmax.
/// </summary>
internal sealed class DynamicMap
{
    /// <summary>Numbers that share an absmax in an optimizer's states.</summary>
    public const int BlockSize = 256;

    /// <summary>What an absmax is at the least, as bitsandbytes has it.</summary>
    public const float LeastAbsMax = 1e-38f;

    private const int Exponents = 7;

    private readonly float[] _levels;
    private readonly float[] _bounds; // between a level and the next; infinite after the last
    private readonly byte[] _first; // by a number's upper 16 bits: the level of the smallest number that has them

    private DynamicMap(bool isSigned)
    {
        IsSigned = isSigned;
        _levels = MakeLevels(isSigned);
        _bounds = [.. _levels.Zip(_levels.Skip(1), (low, high) => (low + high) / 2), float.PositiveInfinity];
        _first = [.. Enumerable.Range(0, 1 << 16).Select(upper => First((uint)upper << 16))];
    }

    /// <summary>Levels from −0.99 to 1: of a first moment, of centered absmax values.</summary>
    public static DynamicMap Signed { get; } = new(true);

    /// <summary>Levels from 0 to 1: of a second moment.</summary>
    public static DynamicMap Unsigned { get; } = new(false);

    /// <summary>Whether it has levels below zero.</summary>
    public bool IsSigned { get; }

    /// <summary>The 256 levels, rising.</summary>
    public ReadOnlySpan<float> Levels => _levels;

    /// <summary>Behind each level the largest number whose code it is; infinite behind the last.</summary>
    public ReadOnlySpan<float> Bounds => _bounds;

    /// <summary>Quantizes a block.</summary>
    /// <param name="block">At most <see cref="BlockSize"/> finite numbers.</param>
    /// <param name="codes">As many codes.</param>
    /// <returns>Its absmax, at least <see cref="LeastAbsMax"/>.</returns>
    public float Quantize(ReadOnlySpan<float> block, Span<byte> codes)
    {
        float absmax = Math.Max(Math.Abs(TensorPrimitives.MaxMagnitude(block)), LeastAbsMax);
        float inverse = 1 / absmax;
        ref byte first = ref MemoryMarshal.GetArrayDataReference(_first);
        ref float bounds = ref MemoryMarshal.GetArrayDataReference(_bounds);
        for (int i = 0; i < block.Length; i++)
        {
            // Numbers with the same upper 16 bits are so near to each other that at most one bound lies between them.
            float value = block[i] * inverse;
            int code = Unsafe.Add(ref first, BitConverter.SingleToUInt32Bits(value) >> 16);
            codes[i] = (byte)(code + (value > Unsafe.Add(ref bounds, code) ? 1 : 0));
        }

        return absmax;
    }

    /// <summary>The numbers of a block: level times absmax.</summary>
    public void Dequantize(ReadOnlySpan<byte> codes, float absmax, Span<float> block)
    {
        ref float levels = ref MemoryMarshal.GetArrayDataReference(_levels);
        for (int i = 0; i < codes.Length; i++)
        {
            block[i] = Unsafe.Add(ref levels, codes[i]) * absmax;
        }
    }

    /// <summary>The code of the level nearest to a number, the lower one of two that are as near.</summary>
    public byte Nearest(float value)
    {
        int at = Array.BinarySearch(_bounds, value);
        return (byte)(at >= 0 ? at : Math.Min(~at, _levels.Length - 1));
    }

    private byte First(uint bits)
    {
        float value = BitConverter.UInt32BitsToSingle(bits);
        float lowest = value < 0 || float.IsNegative(value) ? BitConverter.UInt32BitsToSingle(bits | 0xFFFF) : value;
        return float.IsNaN(value) || float.IsNaN(lowest) ? (byte)0 : Nearest(lowest);
    }

    /// <summary>In float32, rounded where PyTorch's linspace does, so that every bit is that of bitsandbytes.</summary>
    private static float[] MakeLevels(bool isSigned)
    {
        List<float> levels = [0, 1];
        for (int i = 0; i < Exponents; i++)
        {
            int parts = 1 << (isSigned ? i : i + 1);
            float step = (1 - 0.1f) / parts;
            float power = (float)Math.Pow(10, i - Exponents + 1);
            for (int j = 0; j < parts; j++)
            {
                float level = power * ((Boundary(j) + Boundary(j + 1)) / 2); // the middle of one of the equal parts of 0.1 to 1
                levels.Add(level);
                if (isSigned)
                {
                    levels.Add(-level);
                }
            }

            float Boundary(int k) => k < (parts + 1) / 2 ? MathF.FusedMultiplyAdd(step, k, 0.1f) : MathF.FusedMultiplyAdd(-step, parts - k, 1);
        }

        return [.. levels.Order()];
    }
}
