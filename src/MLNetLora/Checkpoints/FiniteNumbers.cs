using System.Numerics.Tensors;

namespace MLNetLora.Checkpoints;

/// <summary>Whether weights are numbers. Products of 8-bit integers make ordinary numbers of NaN and infinity, so that no score would tell: what is
/// quantized, and what stands beside it, is looked at when it is read.</summary>
internal static class FiniteNumbers
{
    private const int RowsAtOnce = 256;

    /// <summary>Whether none is NaN or infinite.</summary>
    public static bool Are(ReadOnlySpan<float> values) => values.IsEmpty || float.IsFinite(TensorPrimitives.MaxMagnitude(values)); // NaN wins

    /// <summary>The same of a whole tensor, some rows of a matrix at a time.</summary>
    public static bool Are(CheckpointTensor tensor, TensorRows rows)
    {
        if (tensor.Entry.Shape.Count != 2)
        {
            return Are(tensor.ReadFloat32());
        }

        (long count, int columns) = (tensor.Entry.Shape[0], (int)tensor.Entry.Shape[1]);
        float[] values = new float[RowsAtOnce * columns];
        for (long first = 0; first < count; first += RowsAtOnce)
        {
            Span<float> part = values.AsSpan(0, (int)Math.Min(RowsAtOnce, count - first) * columns);
            rows.Read(tensor, first, part);
            if (!Are(part))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Refuses a part of a weight that holds others.</summary>
    /// <exception cref="CheckpointException">It does; the message names tensor and file.</exception>
    public static void Require(CheckpointTensor tensor, ReadOnlySpan<float> values)
    {
        if (!Are(values))
        {
            throw Error(tensor);
        }
    }

    /// <summary>What is said of such a tensor.</summary>
    public static CheckpointException Error(CheckpointTensor tensor) => new(
        $"The tensor {tensor.Entry.Name} in {tensor.File.Source} holds NaN or infinite numbers: its model cannot answer. Download or write the file again.");
}
