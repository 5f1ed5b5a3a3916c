using System.Numerics.Tensors;

namespace MLNetLora.Inference;

/// <summary>The denominator of a softmax.</summary>
internal static class Exponentials
{
    private const int Part = 1024;

    /// <summary>The sum of the exponentials of scores: in parts, so that no float adds up more than a thousand numbers.</summary>
    /// <param name="scores">The scores.</param>
    /// <param name="highest">The highest of them, which is taken off them first.</param>
    public static double Sum(ReadOnlySpan<float> scores, float highest)
    {
        Span<float> weights = stackalloc float[Part];
        double sum = 0;
        for (int start = 0; start < scores.Length; start += Part)
        {
            ReadOnlySpan<float> part = scores.Slice(start, Math.Min(Part, scores.Length - start));
            Span<float> parts = weights[..part.Length];
            TensorPrimitives.Subtract(part, highest, parts);
            TensorPrimitives.Exp(parts, parts);
            sum += TensorPrimitives.Sum<float>(parts);
        }

        return sum;
    }
}
