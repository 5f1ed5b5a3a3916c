using System.Numerics;
using MLNetLora.Text;

namespace MLNetLora.Inference.Constraints;

/// <summary>What an answer may go on with, token by token. For one answer on one thread at a time.</summary>
internal interface ITokenMask
{
    /// <summary>Whether nothing may follow any more, not even the end.</summary>
    bool IsComplete { get; }

    /// <summary>Rules out what must not come.</summary>
    /// <param name="logits">The vocabulary's scores; those ruled out become minus infinity.</param>
    /// <exception cref="ConstraintException">No token of the vocabulary may come, or it takes too much to find out.</exception>
    void Apply(Span<float> logits);

    /// <summary>Takes the best of the tokens that may come, and the first of them where all have the score minus infinity.</summary>
    /// <param name="logits">The vocabulary's scores, whatever has been made of them.</param>
    int Take(Span<float> logits);

    /// <summary>Takes the token that was chosen.</summary>
    /// <returns>False where it was ruled out; nothing has then changed.</returns>
    bool Accept(int token);
}

/// <summary>A grammar held over a tokenizer.</summary>
internal sealed class TokenMask : ITokenMask
{
    private readonly Grammar _grammar;
    private readonly Vocabulary _vocabulary;
    private readonly TokenMasks _masks;
    private readonly WorkBudget _budget;
    private readonly int[] _ends;
    private readonly ulong[] _bits;
    private Grammar.Config[] _state;

    /// <summary>Begins an answer.</summary>
    /// <param name="grammar">What it may be.</param>
    /// <param name="tokenizer">The checkpoint's.</param>
    /// <param name="ends">Tokens that end an answer.</param>
    /// <param name="thinking">What of thinking comes before it.</param>
    public TokenMask(Grammar grammar, QwenTokenizer tokenizer, IEnumerable<int> ends, ThinkingPart thinking)
    {
        (_grammar, _vocabulary) = (grammar, Vocabulary.Of(tokenizer));
        _masks = new TokenMasks(grammar, _vocabulary);
        _budget = new WorkBudget(grammar.Store);
        _ends = [.. ends.Concat([tokenizer.ImEndId ?? -1, tokenizer.EndOfTextId ?? -1]).Where(id => id >= 0 && id < tokenizer.VocabularySize).Distinct()];
        _bits = new ulong[_vocabulary.Words];
        lock (grammar.Lock)
        {
            _state = _budget.Within(() => grammar.Start(thinking));
        }
    }

    /// <inheritdoc/>
    public bool IsComplete { get; private set; }

    private bool MayEnd => Array.Exists(_state, config => config.Tail is null && config.Term.IsNullable);

    /// <inheritdoc/>
    public void Apply(Span<float> logits)
    {
        Allow();
        bool any = false;
        for (int i = 0; i < _bits.Length && i * 64 < logits.Length; i++)
        {
            Span<float> scores = logits[(i * 64)..Math.Min(logits.Length, (i + 1) * 64)];
            ulong inside = scores.Length == 64 ? ulong.MaxValue : (1UL << scores.Length) - 1;
            any |= (_bits[i] & inside) != 0;
            if (_bits[i] == 0)
            {
                scores.Fill(float.NegativeInfinity);
                continue;
            }

            for (ulong no = ~_bits[i] & inside; no != 0; no &= no - 1)
            {
                scores[BitOperations.TrailingZeroCount(no)] = float.NegativeInfinity;
            }
        }

        if (logits.Length > _bits.Length * 64)
        {
            logits[(_bits.Length * 64)..].Fill(float.NegativeInfinity);
        }

        if (!any)
        {
            throw new ConstraintException(
                "No token of this vocabulary can go on with the answer: a byte that the constraint asks for is missing in the tokenizer, or nothing but an "
                + "end-of-text token is left and it has none.");
        }
    }

    /// <inheritdoc/>
    public bool Accept(int token)
    {
        lock (_grammar.Lock)
        {
            return _budget.Within(() => Step(token));
        }
    }

    /// <inheritdoc/>
    public int Take(Span<float> logits)
    {
        Apply(logits);
        int best = -1;
        for (int id = 0; id < Math.Min(logits.Length, _bits.Length * 64); id++)
        {
            if ((_bits[id >> 6] >> (id & 63) & 1) != 0 && (best < 0 || logits[id] > logits[best]))
            {
                best = id;
            }
        }

        _ = Accept(best);
        return best;
    }

    private bool Step(int token)
    {
        if (Array.IndexOf(_ends, token) >= 0)
        {
            IsComplete |= MayEnd;
            return IsComplete;
        }

        ReadOnlySpan<byte> bytes = _vocabulary.Bytes(token);
        Grammar.Config[] state = _state;
        foreach (byte value in bytes)
        {
            state = _grammar.Step(state, value);
        }

        if (bytes.IsEmpty || state.Length == 0)
        {
            return false;
        }

        _state = state;
        IsComplete = MayEnd && !Array.Exists(state, config => _grammar.Store.GoesOn(config.Term));
        return true;
    }

    private void Allow()
    {
        Array.Clear(_bits);
        lock (_grammar.Lock)
        {
            _budget.ForToken(() => _masks.AddTo(_state, _bits));
        }

        if (MayEnd)
        {
            foreach (int id in _ends)
            {
                _bits[id >> 6] |= 1UL << (id & 63);
            }
        }
    }
}
