using System.Numerics.Tensors;

namespace MLNetLora.Inference;

/// <summary>Chooses the next token of one row. The order of the steps is transformers': repetition penalty, temperature, top-k, top-p.</summary>
internal sealed class Sampler
{
    private readonly GenerationOptions _options;
    private readonly HashSet<int> _seen;
    private readonly int _limit;
    private readonly Random _random;

    /// <summary>Starts a row.</summary>
    /// <param name="options">How to sample.</param>
    /// <param name="prompt">Its tokens count as seen; with the seed it also fixes the random numbers, so that a row's answer does not depend on its batch.</param>
    /// <param name="limit">Ids from here on are never chosen.</param>
    public Sampler(GenerationOptions options, IReadOnlyList<int> prompt, int limit)
    {
        _options = options;
        _seen = [.. prompt];
        _limit = limit;
        ulong hash = 14695981039346656037; // FNV-1a
        foreach (int id in prompt)
        {
            hash = (hash ^ (uint)id) * 1099511628211;
        }

        _random = options.Seed is int seed ? new Random(unchecked(seed ^ (int)(hash ^ (hash >> 32)))) : new Random();
    }

    /// <summary>Chooses a token; the logits are changed.</summary>
    public int Next(Span<float> logits)
    {
        Span<float> scores = logits[.._limit];
        float penalty = _options.RepetitionPenalty ?? 1f;
        if (penalty != 1f)
        {
            foreach (int id in _seen.Where(id => id < _limit))
            {
                logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
            }
        }

        // IndexOfMax of System.Numerics.Tensors 10.0.15 gives 0 whatever the scores are on processors with AVX-512; Max is right.
        int chosen = (_options.Temperature ?? 0f) == 0f ? scores.IndexOf(TensorPrimitives.Max<float>(scores)) : Sample(scores);
        _seen.Add(chosen);
        return chosen;
    }

    private int Sample(Span<float> scores)
    {
        int topK = _options.TopK ?? 0;
        float topP = _options.TopP ?? 1f;
        // The highest score is taken off first: a tiny temperature then makes no infinities.
        TensorPrimitives.Subtract(scores, TensorPrimitives.Max<float>(scores), scores);
        TensorPrimitives.Divide(scores, _options.Temperature ?? 0f, scores);
        int[] ids = [.. Enumerable.Range(0, scores.Length)];
        float[] keys = scores.ToArray();
        int keep = scores.Length;
        if (topK > 0 || topP < 1f)
        {
            Array.Sort(keys, ids, Comparer<float>.Create((a, b) => b.CompareTo(a)));
            keep = topK > 0 ? Math.Min(keep, topK) : keep;
        }

        float[] probabilities = new float[keep];
        TensorPrimitives.SoftMax(keys.AsSpan(0, keep), probabilities);
        if (topP < 1f)
        {
            // The fewest tokens that together reach p; always at least one.
            double sum = 0;
            int count = 0;
            while (count < keep && sum < topP)
            {
                sum += probabilities[count++];
            }

            keep = Math.Max(1, count);
        }

        double total = 0;
        for (int i = 0; i < keep; i++)
        {
            total += probabilities[i];
        }

        double draw = _random.NextDouble() * total;
        for (int i = 0; i < keep; i++)
        {
            draw -= probabilities[i];
            if (draw < 0)
            {
                return ids[i];
            }
        }

        return ids[keep - 1];
    }
}
