using MLNetLora.Text;

namespace MLNetLora.Inference.Constraints;

/// <summary>
/// Tokens in a tree by their bytes, laid out in the order of a walk: the nodes below one follow it, up to where it says that they end. What a byte rules out is
/// left behind in one jump.
/// </summary>
internal sealed class TokenTrie
{
    /// <summary>Builds the tree.</summary>
    /// <param name="tokens">Ids and bytes of tokens, each at least one byte.</param>
    public TokenTrie(IEnumerable<(int Id, byte[] Bytes)> tokens)
    {
        (int Id, byte[] Bytes)[] sorted = [.. tokens];
        Array.Sort(sorted, (x, y) => x.Bytes.AsSpan().SequenceCompareTo(y.Bytes));
        List<byte> labels = [0];
        List<short> depths = [0];
        List<int> ends = [0];
        List<int> firstTokens = [0];
        List<int> ids = [];
        List<int> path = [0]; // node at each depth
        byte[] before = [];
        foreach ((int id, byte[] bytes) in sorted)
        {
            int common = before.AsSpan().CommonPrefixLength(bytes);
            Leave(common);
            for (int depth = common; depth < bytes.Length; depth++)
            {
                path.Add(labels.Count);
                labels.Add(bytes[depth]);
                depths.Add((short)(depth + 1));
                ends.Add(0);
                firstTokens.Add(ids.Count);
            }

            ids.Add(id);
            before = bytes;
            LongestToken = Math.Max(LongestToken, bytes.Length);
        }

        Leave(-1);
        firstTokens.Add(ids.Count);
        (Labels, Depths, Ends, FirstTokens, Tokens) = ([.. labels], [.. depths], [.. ends], [.. firstTokens], [.. ids]);

        void Leave(int depth)
        {
            for (; path.Count > depth + 1; path.RemoveAt(path.Count - 1))
            {
                ends[path[^1]] = labels.Count;
            }
        }
    }

    /// <summary>The byte of each node; the first is the root, which has none.</summary>
    public byte[] Labels { get; }

    /// <summary>How many bytes lead to each node.</summary>
    public short[] Depths { get; }

    /// <summary>Where the nodes below each one end.</summary>
    public int[] Ends { get; }

    /// <summary>For each node, and one more, the index of its first token: those of a node end where the next one's begin.</summary>
    public int[] FirstTokens { get; }

    /// <summary>Ids.</summary>
    public int[] Tokens { get; }

    /// <summary>Bytes of the longest token.</summary>
    public int LongestToken { get; }

    /// <summary>The tokens that answers are made of: those with bytes, control tokens left out.</summary>
    public static IEnumerable<(int Id, byte[] Bytes)> OfAnswers(QwenTokenizer tokenizer)
    {
        for (int id = 0; id < tokenizer.VocabularySize; id++)
        {
            byte[] bytes = tokenizer.Bytes(id, skipSpecialTokens: true).ToArray();
            if (bytes.Length is > 0 and < short.MaxValue)
            {
                yield return (id, bytes);
            }
        }
    }
}
