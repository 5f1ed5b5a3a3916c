using System.Buffers;
using System.Numerics.Tensors;

namespace MLNetLora.Inference;

/// <summary>Chooses the next token of one row. The order of the steps is transformers': repetition penalty, temperature, top-k, top-p.</summary>
internal sealed class Sampler
{
    private const int FirstSelection = 64;
    private const int SelectionGrowth = 16;

    private readonly BestScores _best = new();
    private readonly float _temperature;
    private readonly int _topK;
    private readonly float _topP;
    private readonly float _penalty;
    private readonly HashSet<int> _occurred;
    private readonly int _limit;
    private readonly Random _random;

    /// <summary>Starts a row.</summary>
    /// <param name="options">How to sample; nothing in it is left to the checkpoint any more.</param>
    /// <param name="prompt">RepetitionPenalty counts its tokens as generated; with the seed it also fixes the random numbers, so that a row's answer
    /// does not depend on its batch.</param>
    /// <param name="limit">Ids from here on are never chosen.</param>
    public Sampler(GenerationOptions options, IReadOnlyList<int> prompt, int limit)
    {
        _temperature = options.Temperature ?? 0;
        _topK = options.TopK ?? 0;
        _topP = options.TopP ?? 1;
        _penalty = options.RepetitionPenalty ?? 1;
        _occurred = [.. prompt];
        _limit = limit;
        ulong hash = 14695981039346656037; // FNV-1a
        foreach (int id in prompt)
        {
            hash = (hash ^ (uint)id) * 1099511628211;
        }

        _random = options.Seed is int seed ? new Random(unchecked(seed ^ (int)(hash ^ (hash >> 32)))) : new Random();
    }

    /// <summary>Chooses a token; the logits are changed.</summary>
    /// <param name="logits">The vocabulary's scores, all of them numbers.</param>
    public int Next(Span<float> logits)
    {
        Span<float> scores = logits[.._limit];
        if (_penalty != 1f)
        {
            Penalize(scores);
        }

        // IndexOfMax of System.Numerics.Tensors 10.0.15 gives 0 whatever the scores are on processors with AVX-512; Max is right.
        int chosen = _temperature == 0 ? scores.IndexOf(TensorPrimitives.Max<float>(scores)) : Sample(scores);
        _occurred.Add(chosen);
        return chosen;
    }

    private void Penalize(Span<float> scores)
    {
        foreach (int id in _occurred)
        {
            if (id < scores.Length)
            {
                scores[id] = scores[id] > 0 ? scores[id] / _penalty : scores[id] * _penalty;
            }
        }
    }

    private int Sample(Span<float> scores)
    {
        // The highest score is taken off first: a tiny temperature then makes no infinities.
        TensorPrimitives.Subtract(scores, TensorPrimitives.Max<float>(scores), scores);
        TensorPrimitives.Divide(scores, _temperature, scores);
        if (_topK > 0)
        {
            _best.Select(scores, Math.Min(_topK, scores.Length));
            return DrawBest(_topP < 1f ? _topP * SumOfBest() : double.PositiveInfinity);
        }

        if (_topP < 1f)
        {
            return DrawBest(SelectProbability(scores, _topP));
        }

        TensorPrimitives.Exp(scores, scores);
        return DrawAny(scores);
    }

    // Selects at least the fewest best scores that together reach p, and returns p of the sum over all: mostly a few dozen tokens have it, seldom many.
    private double SelectProbability(ReadOnlySpan<float> scores, float p)
    {
        float[] rented = ArrayPool<float>.Shared.Rent(scores.Length);
        Span<float> weights = rented.AsSpan(0, scores.Length);
        TensorPrimitives.Exp(scores, weights);
        double wanted = p * (double)TensorPrimitives.Sum<float>(weights);
        ArrayPool<float>.Shared.Return(rented);
        for (int count = FirstSelection; ; count *= SelectionGrowth)
        {
            _best.Select(scores, Math.Min(count, scores.Length));
            if (count >= scores.Length || SumOfBest() >= wanted)
            {
                return wanted;
            }
        }
    }

    private double SumOfBest()
    {
        double sum = 0;
        for (int i = 0; i < _best.Count; i++)
        {
            sum += Weight(i);
        }

        return sum;
    }

    /// <summary>Draws among the fewest of the selected tokens whose weights reach a sum; always among one at least.</summary>
    private int DrawBest(double reach)
    {
        double total = 0;
        int keep = 0;
        while (keep < _best.Count && (keep == 0 || total < reach))
        {
            total += Weight(keep++);
        }

        double draw = _random.NextDouble() * total;
        for (int i = 0; i < keep; i++)
        {
            draw -= Weight(i);
            if (draw < 0)
            {
                return _best.Id(i);
            }
        }

        return _best.Id(keep - 1);
    }

    private int DrawAny(ReadOnlySpan<float> weights)
    {
        double total = 0;
        foreach (float weight in weights)
        {
            total += weight;
        }

        double draw = _random.NextDouble() * total;
        for (int id = 0; id < weights.Length; id++)
        {
            draw -= weights[id];
            if (draw < 0)
            {
                return id;
            }
        }

        return weights.LastIndexOfAnyExcept(0f);
    }

    private float Weight(int i) => MathF.Exp(_best.Score(i));
}
