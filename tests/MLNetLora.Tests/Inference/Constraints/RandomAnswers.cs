using System.Text;
using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Answers of a model that knows nothing: random scores, a little higher for tokens that end things, so that answers end.</summary>
internal sealed class RandomAnswers
{
    private readonly float[] _bias;
    private readonly float[] _logits;

    public RandomAnswers(QwenTokenizer tokenizer)
    {
        Tokenizer = tokenizer;
        _logits = new float[tokenizer.VocabularySize + 3]; // rows that pad the embedding
        _bias = new float[_logits.Length];
        for (int id = 0; id < tokenizer.VocabularySize; id++)
        {
            string text = tokenizer.Decode([id], skipSpecialTokens: true);
            _bias[id] = text.Length == 0 ? 0.3f : text.AsSpan().ContainsAny("\"}]") ? 0.25f : 0;
        }
    }

    public static RandomAnswers OverNano { get; } = new(QwenTokenizer.Load(Repository.Nano));

    public QwenTokenizer Tokenizer { get; }

    /// <summary>Writes an answer.</summary>
    /// <returns>Its bytes, and whether it ended of itself.</returns>
    public (byte[] Bytes, bool HasEnded) Write(OutputConstraint constraint, Random random, int maximumTokens = 400, ThinkingPart thinking = ThinkingPart.None)
    {
        ITokenMask mask = constraint.Begin(Tokenizer, [Tokenizer.ImEndId!.Value], thinking);
        List<byte> bytes = [];
        for (int i = 0; i < maximumTokens; i++)
        {
            for (int id = 0; id < _logits.Length; id++)
            {
                // The further the answer, the more it wants to end.
                _logits[id] = random.NextSingle() + (_bias[id] * (1 + (i / 50f)));
            }

            mask.Apply(_logits);
            int token = Array.IndexOf(_logits, _logits.Max());
            Assert.True(mask.Accept(token));
            ReadOnlySpan<byte> piece = Tokenizer.Bytes(token, skipSpecialTokens: true);
            bytes.AddRange(piece);
            if (mask.IsComplete || piece.IsEmpty)
            {
                return ([.. bytes], true);
            }
        }

        return ([.. bytes], false);
    }

    /// <summary>Writes an answer that ends; whatever it is, it is UTF-8.</summary>
    public string Text(OutputConstraint constraint, Random random, ThinkingPart thinking = ThinkingPart.None)
    {
        for (int i = 0; i < 20; i++)
        {
            (byte[] bytes, bool hasEnded) = Write(constraint, random, thinking: thinking);
            if (hasEnded)
            {
                return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(bytes);
            }
        }

        throw new Xunit.Sdk.XunitException("No answer has ended.");
    }

    /// <summary>Whether a text may come, as its bytes and as the tokens that the tokenizer makes of it.</summary>
    public bool Allows(OutputConstraint constraint, string text, ThinkingPart thinking = ThinkingPart.None)
    {
        ITokenMask mask = constraint.Begin(Tokenizer, [Tokenizer.ImEndId!.Value], thinking);
        float[] logits = new float[Tokenizer.VocabularySize];
        bool isAllowed = true;
        foreach (int id in Tokenizer.Encode(text))
        {
            Array.Clear(logits);
            mask.Apply(logits);
            bool isInMask = logits[id] == 0;
            bool isAccepted = mask.Accept(id);
            Assert.Equal(isAccepted, isInMask); // walks over the vocabulary and steps agree
            isAllowed = isAccepted;
            if (!isAccepted)
            {
                break;
            }
        }

        if (!isAllowed || mask.IsComplete)
        {
            return isAllowed;
        }

        Array.Clear(logits);
        mask.Apply(logits);
        bool mayEnd = logits[Tokenizer.ImEndId!.Value] == 0;
        Assert.Equal(mayEnd, mask.Accept(Tokenizer.ImEndId!.Value));
        return mayEnd;
    }
}
