using System.Numerics.Tensors;

namespace MLNetLora.Inference;

/// <summary>A token that was chosen.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Logprob">Its log probability; 0 where nobody asked for it.</param>
/// <param name="Top">The likeliest tokens in its place with theirs, best first; null where nobody asked.</param>
internal readonly record struct ChosenToken(int Id, float Logprob = 0, IReadOnlyList<(int Id, float Logprob)>? Top = null);

/// <summary>Takes down what a model thinks of tokens before one is chosen. For one row on one thread at a time.</summary>
/// <param name="top">How many of the likeliest tokens.</param>
/// <param name="limit">Ids from here on are none of these, since they stand for nothing.</param>
internal sealed class TokenLogprobs(int top, int limit)
{
    private readonly BestScores _best = new();
    private float[] _scores = [];

    /// <summary>Keeps the scores, which are changed when a token is chosen.</summary>
    /// <param name="logits">The vocabulary's scores as the model gives them.</param>
    public void Read(ReadOnlySpan<float> logits)
    {
        _scores = _scores.Length == logits.Length ? _scores : new float[logits.Length];
        logits.CopyTo(_scores);
    }

    /// <summary>What there is to say of the token that was chosen.</summary>
    public ChosenToken Of(int token)
    {
        float highest = TensorPrimitives.Max<float>(_scores);
        double sum = highest + Math.Log(Exponentials.Sum(_scores, highest));
        (int, float)[] best = new (int, float)[Math.Min(top, limit)];
        if (best.Length > 0)
        {
            _best.Select(_scores.AsSpan(0, limit), best.Length);
        }

        for (int i = 0; i < best.Length; i++)
        {
            best[i] = (_best.Id(i), (float)(_best.Score(i) - sum));
        }

        return new ChosenToken(token, (float)(_scores[token] - sum), best);
    }
}
