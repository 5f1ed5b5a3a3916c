namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>What a byte-level BPE is: the bytes of every rank, the merges in the order in which they were learned, and the control tokens after the
/// ranks.</summary>
/// <param name="Tokens">Bytes of each token; the index is its id. The first 256 are single bytes.</param>
/// <param name="Merges">Pairs of ids; merge i makes token 256 + i.</param>
internal sealed record Vocabulary(IReadOnlyList<byte[]> Tokens, IReadOnlyList<(int Left, int Right)> Merges)
{
    public const string EndOfText = "<|endoftext|>";
    public const string MessageStart = "<|im_start|>";
    public const string MessageEnd = "<|im_end|>";

    /// <summary>The control tokens in the order of their ids, which follow the ranks. The chat template of the nano model needs no others.</summary>
    public static IReadOnlyList<string> Specials { get; } = [EndOfText, MessageStart, MessageEnd];

    /// <summary>Ranks and control tokens together: the rows of the embedding.</summary>
    public int Size => Tokens.Count + Specials.Count;

    public int SpecialId(string content)
    {
        for (int i = 0; i < Specials.Count; i++)
        {
            if (Specials[i] == content)
            {
                return Tokens.Count + i;
            }
        }

        throw new TokenizerException($"'{content}' is no control token of this vocabulary; it has {string.Join(", ", Specials)}");
    }

    /// <summary>The 256 single bytes in the order of the published vocabularies, as the start of every vocabulary.</summary>
    public static List<byte[]> SingleBytes()
    {
        List<byte[]> tokens = new(256);
        foreach (byte value in ByteAlphabet.IdOrder)
        {
            tokens.Add([value]);
        }

        return tokens;
    }
}
