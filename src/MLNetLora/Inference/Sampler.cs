using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace MLNetLora.Inference;

/// <summary>
/// Chooses the next token of one row. The order of the steps is transformers': bias, repetition penalty, presence and frequency penalty (which it does not
/// have,
/// and vLLM has here), what may not be chosen, temperature, top-k, top-p, min-p.
/// </summary>
internal sealed class Sampler
{
    private const int FirstSelection = 64;
    private const int SelectionGrowth = 16;

    private readonly BestScores _best = new();
    private readonly float _temperature;
    private readonly int _topK;
    private readonly float _topP;
    private readonly float _minP;
    private readonly float _penalty;
    private readonly HashSet<int> _occurred; // empty where nothing asks for it, as are the counts
    private readonly float _presence;
    private readonly float _frequency;
    private readonly Dictionary<int, int> _counts = [];
    private readonly (int Id, float Bias)[] _biases;
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
        _minP = options.MinP ?? 0;
        _penalty = options.RepetitionPenalty ?? 1;
        _occurred = _penalty == 1f ? [] : [.. prompt];
        (_presence, _frequency) = (options.PresencePenalty, options.FrequencyPenalty);
        _biases = [.. options.LogitBias.Where(bias => bias.Key < limit).Select(bias => (bias.Key, bias.Value))];
        _limit = limit;
        _random = options.Seed is int seed ? Numbers(seed, prompt) : new Random();
    }

    /// <summary>The random numbers of a seed and a prompt. Neighbouring seeds have nothing in common: those of Random alone would have.</summary>
    internal static Random Numbers(int seed, IReadOnlyList<int> prompt)
    {
        ulong hash = 14695981039346656037; // FNV-1a
        foreach (int id in prompt)
        {
            hash = (hash ^ (uint)id) * 1099511628211;
        }

        // SplitMix64's last steps
        hash += (uint)seed * 0x9E3779B97F4A7C15;
        hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9;
        hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EB;
        return new Random(unchecked((int)(hash ^ (hash >> 31))));
    }

    /// <summary>Chooses a token; the logits are changed.</summary>
    /// <param name="logits">The vocabulary's scores; none is NaN, and one at least is more than negative infinity, which forbids a token.</param>
    /// <param name="forbidden">Tokens that are not chosen where there is another one.</param>
    public int Next(Span<float> logits, ReadOnlySpan<int> forbidden = default)
    {
        Span<float> scores = logits[.._limit];
        foreach ((int id, float bias) in _biases)
        {
            scores[id] += bias;
        }

        if (_penalty != 1f)
        {
            Penalize(scores);
        }

        foreach ((int id, int count) in _counts)
        {
            scores[id] -= _presence + (count * _frequency);
        }

        if (!forbidden.IsEmpty)
        {
            Forbid(scores, forbidden);
        }

        // IndexOfMax of System.Numerics.Tensors 10.0.15 gives 0 whatever the scores are on processors with AVX-512; Max is right.
        int chosen = _temperature == 0 ? scores.IndexOf(TensorPrimitives.Max<float>(scores)) : Sample(scores);
        if (_penalty != 1f)
        {
            _occurred.Add(chosen);
        }

        if (_presence != 0 || _frequency != 0)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(_counts, chosen, out _)++;
        }

        return chosen;
    }

    private static void Forbid(Span<float> scores, ReadOnlySpan<int> forbidden)
    {
        Span<float> before = stackalloc float[forbidden.Length];
        for (int i = 0; i < forbidden.Length; i++)
        {
            if (forbidden[i] < scores.Length)
            {
                before[i] = scores[forbidden[i]];
                scores[forbidden[i]] = float.NegativeInfinity;
            }
        }

        if (float.IsFinite(TensorPrimitives.Max<float>(scores)))
        {
            return;
        }

        for (int i = forbidden.Length - 1; i >= 0; i--) // of an id that is there twice, the first score is its own
        {
            if (forbidden[i] < scores.Length)
            {
                scores[forbidden[i]] = before[i];
            }
        }
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
        if (_minP > 0f)
        {
            foreach (ref float weight in scores)
            {
                weight = weight < _minP ? 0 : weight;
            }
        }

        return DrawAny(scores);
    }

    // Selects at least the fewest best scores that together reach p, and returns p of the sum over all: mostly a few dozen tokens have it, seldom many.
    private double SelectProbability(ReadOnlySpan<float> scores, float p)
    {
        double wanted = p * Exponentials.Sum(scores, highest: 0);
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

    /// <summary>Draws among the fewest of the selected tokens whose weights reach a sum, and of these among those that min-p leaves; always among one at
    /// least. The best one's weight is 1.</summary>
    private int DrawBest(double reach)
    {
        double total = 0;
        int keep = 0;
        while (keep < _best.Count && (keep == 0 || (total < reach && Weight(keep) >= _minP)))
        {
            total += Weight(keep++);
        }

        // By their ids: in which order those come that are as good as one another depends on the last bit of their scores, and that on the batch.
        _best.OrderById(keep);
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
