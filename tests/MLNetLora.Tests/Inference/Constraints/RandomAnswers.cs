using System.Numerics.Tensors;
using System.Text;
using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Answers of a model that knows nothing: random scores, a little higher for tokens that end things, so that answers end.</summary>
internal sealed class RandomAnswers
{
    private static readonly float[] s_noise = Noise();

    private readonly float[] _bias;

    public RandomAnswers(QwenTokenizer tokenizer)
    {
        Tokenizer = tokenizer;
        _bias = new float[tokenizer.VocabularySize + 3]; // rows that pad the embedding
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
    public (byte[] Bytes, bool HasEnded) Write(
        OutputConstraint constraint,
        Random random,
        int maximumTokens = 400,
        ThinkingPart thinking = ThinkingPart.None,
        ToolCallForm calls = ToolCallForm.Json)
    {
        ITokenMask mask = constraint.Begin(Tokenizer, [Tokenizer.ImEndId!.Value], thinking, calls);
        float[] logits = new float[_bias.Length];
        List<byte> bytes = [];
        for (int i = 0; i < maximumTokens; i++)
        {
            // The further the answer, the more it wants to end.
            TensorPrimitives.MultiplyAdd(_bias, 1 + (i / 50f), s_noise.AsSpan(random.Next(s_noise.Length - logits.Length), logits.Length), logits);

            mask.Apply(logits);
            int token = Array.IndexOf(logits, TensorPrimitives.Max<float>(logits));
            ReadOnlySpan<byte> piece = Tokenizer.Bytes(token, skipSpecialTokens: true);
            Assert.True(mask.Accept(token), $"'{Encoding.UTF8.GetString(piece)}' (token {token}) after {Encoding.UTF8.GetString([.. bytes])}");
            bytes.AddRange(piece);
            if (mask.IsComplete || piece.IsEmpty)
            {
                return ([.. bytes], true);
            }
        }

        return ([.. bytes], false);
    }

    /// <summary>Writes an answer that ends; whatever it is, it is UTF-8.</summary>
    public string Text(
        OutputConstraint constraint, Random random, ThinkingPart thinking = ThinkingPart.None, ToolCallForm calls = ToolCallForm.Json)
    {
        for (int i = 0; i < 20; i++)
        {
            (byte[] bytes, bool hasEnded) = Write(constraint, random, thinking: thinking, calls: calls);
            if (hasEnded)
            {
                return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(bytes);
            }
        }

        throw new Xunit.Sdk.XunitException("No answer has ended.");
    }

    /// <summary>Whether a text may come, as its bytes and as the tokens that the tokenizer makes of it.</summary>
    public bool Allows(
        OutputConstraint constraint, string text, ThinkingPart thinking = ThinkingPart.None, ToolCallForm calls = ToolCallForm.Json)
    {
        ITokenMask mask = constraint.Begin(Tokenizer, [Tokenizer.ImEndId!.Value], thinking, calls);
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

    private static float[] Noise()
    {
        Random random = new(7);
        return [.. Enumerable.Range(0, 1 << 20).Select(_ => random.NextSingle())];
    }
}
