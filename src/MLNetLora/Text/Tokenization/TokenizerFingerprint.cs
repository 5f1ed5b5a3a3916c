using System.Buffers;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace MLNetLora.Text;

/// <summary>What a tokenizer's files mean, as hashes: two folders with the same ones turn every text into the same ids, whichever files say so and
/// however they are written.</summary>
/// <param name="Vocabulary">SHA-256 of the tokens with their ids.</param>
/// <param name="Merges">SHA-256 of the merges in their order.</param>
/// <param name="AddedTokens">SHA-256 of the added tokens with their ids and kinds.</param>
/// <param name="Rules">How text is normalized and split.</param>
internal sealed record TokenizerFingerprint(string Vocabulary, string Merges, string AddedTokens, string Rules)
{
    /// <summary>Reads a checkpoint folder.</summary>
    /// <exception cref="TokenizerException">The files are missing, unreadable or contradict themselves.</exception>
    public static TokenizerFingerprint Read(string folder)
    {
        TokenizerData data = TokenizerFiles.Read(folder);
        string letters = data.PreTokenizer.MarksAreLetters ? "letters and marks" : "letters";
        string order = data.NormalizeBeforeAddedTokens ? "before added tokens" : "after added tokens";
        string normalized = data.Normalize ? $"NFC {order}" : "not normalized";
        return new TokenizerFingerprint(
            OfVocabulary(data.Tokens),
            OfMerges(data.Merges),
            OfAddedTokens(data.AddedTokens),
            $"{normalized}, words of {letters}{(data.WholeWordsFirst ? ", whole words first" : "")}");
    }

    /// <summary>In what another tokenizer differs from this one; null when it does not.</summary>
    public string? Difference(TokenizerFingerprint other) =>
        Vocabulary != other.Vocabulary ? "the vocabulary (vocab.json, tokenizer.json or qwen.tiktoken) has other tokens or ids"
        : Merges != other.Merges ? "the merges (merges.txt, tokenizer.json or qwen.tiktoken) are others"
        : AddedTokens != other.AddedTokens ? "the added tokens (tokenizer_config.json or tokenizer.json) are others"
        : Rules != other.Rules ? $"text was split as '{Rules}' (tokenizer.json), here it is '{other.Rules}'"
        : null;

    private static string OfVocabulary(TokenTable tokens)
    {
        ArrayBufferWriter<byte> bytes = new(tokens.Count * 16);
        for (int id = 0; id < tokens.Size; id++)
        {
            if (tokens.Contains(id))
            {
                Add(bytes, id);
                Add(bytes, tokens[id].Length);
                bytes.Write(tokens[id]);
            }
        }

        return Hash(bytes);
    }

    private static string OfMerges(MergeTable merges)
    {
        ArrayBufferWriter<byte> bytes = new();
        foreach ((int left, int right, int _, int merged) in merges.All().OrderBy(merge => merge.Rank).ThenBy(merge => merge.Left).ThenBy(merge => merge.Right))
        {
            Add(bytes, left);
            Add(bytes, right);
            Add(bytes, merged);
        }

        return Hash(bytes);
    }

    private static string OfAddedTokens(IReadOnlyList<AddedToken> tokens)
    {
        ArrayBufferWriter<byte> bytes = new();
        foreach (AddedToken token in new AddedTokens(tokens).All)
        {
            byte[] content = Encoding.UTF8.GetBytes(token.Content);
            Add(bytes, token.Id);
            Add(bytes, content.Length);
            bytes.Write(content);
            bytes.Write([(byte)(token.Special ? 1 : 0), (byte)(token.Normalized ? 1 : 0)]);
        }

        return Hash(bytes);
    }

    private static void Add(ArrayBufferWriter<byte> bytes, int value)
    {
        BinaryPrimitives.WriteInt32LittleEndian(bytes.GetSpan(4), value);
        bytes.Advance(4);
    }

    private static string Hash(ArrayBufferWriter<byte> bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes.WrittenSpan));
}
