using System.Numerics.Tensors;

namespace MLNetLora.Quantization;

/// <summary>
/// The absmax values of a weight in 8 bits (double quantization, QLoRA section 3): their mean is subtracted, and in blocks each is the nearest of 256 levels of
/// the block's largest. The levels are those of the signed <see cref="DynamicMap"/>.
/// </summary>
internal sealed class NestedCodes
{
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
                Codes[(i * blockSize) + j] = DynamicMap.Signed.Nearest(AbsMax[i] > 0 ? block[j] / AbsMax[i] : 0);
            }
        }
    }

    /// <summary>The 256 levels from −0.99 to 1, rising.</summary>
    public static ReadOnlySpan<float> Map => DynamicMap.Signed.Levels;

    /// <summary>[blocks].</summary>
    public byte[] Codes { get; }

    /// <summary>[⌈blocks / block size⌉].</summary>
    public float[] AbsMax { get; }

    /// <summary>The mean.</summary>
    public float Offset { get; }
}
