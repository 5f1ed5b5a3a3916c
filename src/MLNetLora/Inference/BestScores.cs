using System.Numerics.Tensors;

namespace MLNetLora.Inference;

/// <summary>
/// The best of many scores without sorting them all; used again for every token, so that nothing is allocated for one. Best first, and the lower id
/// first among equals.
/// </summary>
internal sealed class BestScores
{
    private const int Chunk = 64;

    // Score and id in one number: the higher score is the larger one, and among equals the lower id.
    private readonly PriorityQueue<ulong, ulong> _queue = new(); // the least of those kept comes first
    private ulong[] _best = [];

    /// <summary>How many were selected.</summary>
    public int Count { get; private set; }

    /// <summary>The id of the i-th best.</summary>
    public int Id(int i) => (int)~(uint)_best[i];

    /// <summary>The score of the i-th best.</summary>
    public float Score(int i) => ScoreOf(_best[i]);

    /// <summary>Selects.</summary>
    /// <param name="scores">By id; no NaN.</param>
    /// <param name="count">How many to keep, at most all.</param>
    public void Select(ReadOnlySpan<float> scores, int count)
    {
        Count = count;
        if (count > scores.Length / 8)
        {
            SortAll(scores);
            return;
        }

        _queue.Clear();
        float least = float.NegativeInfinity;
        for (int first = 0; first < scores.Length; first += Chunk)
        {
            ReadOnlySpan<float> chunk = scores.Slice(first, Math.Min(Chunk, scores.Length - first));
            if (_queue.Count == count && TensorPrimitives.Max(chunk) <= least)
            {
                continue; // equals come later, so they lose
            }

            for (int i = 0; i < chunk.Length; i++)
            {
                ulong packed = Pack(chunk[i], first + i);
                if (_queue.Count < count)
                {
                    _queue.Enqueue(packed, packed);
                }
                else if (chunk[i] > least)
                {
                    _queue.EnqueueDequeue(packed, packed);
                }
                else
                {
                    continue;
                }

                least = ScoreOf(_queue.Peek());
            }
        }

        Reserve(count);
        for (int i = count - 1; i >= 0; i--)
        {
            _best[i] = _queue.Dequeue();
        }
    }

    /// <summary>Has the first of those that were selected, which are then the only ones, in the order of their ids.</summary>
    public void OrderById(int count)
    {
        Count = count;
        Span<ulong> kept = _best.AsSpan(0, count);
        TensorPrimitives.RotateLeft(kept, 32, kept);
        kept.Sort();
        kept.Reverse(); // the lower id has the larger bits
        TensorPrimitives.RotateLeft(kept, 32, kept);
    }

    private static ulong Pack(float score, int id)
    {
        uint bits = BitConverter.SingleToUInt32Bits(score + 0f); // -0 is 0
        uint ordered = (bits & 0x80000000) != 0 ? ~bits : bits | 0x80000000;
        return ((ulong)ordered << 32) | ~(uint)id;
    }

    private static float ScoreOf(ulong packed)
    {
        uint ordered = (uint)(packed >> 32);
        return BitConverter.UInt32BitsToSingle((ordered & 0x80000000) != 0 ? ordered & 0x7FFFFFFF : ~ordered);
    }

    private void SortAll(ReadOnlySpan<float> scores)
    {
        Reserve(scores.Length);
        for (int i = 0; i < scores.Length; i++)
        {
            _best[i] = Pack(scores[i], i);
        }

        Span<ulong> all = _best.AsSpan(0, scores.Length);
        all.Sort();
        all.Reverse();
    }

    private void Reserve(int count)
    {
        if (_best.Length < count)
        {
            _best = new ulong[count];
        }
    }
}
