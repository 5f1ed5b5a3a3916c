using System.Text;

namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>
/// Learns the merges of a byte-level BPE: again and again the most frequent neighbouring pair becomes one token.
/// Ties go to the smaller ids, so that the same text gives the same files.
/// </summary>
/// <remarks>
/// One rule more than the textbook's: a token is either whole characters or the beginning of one character.
/// Plain byte-level BPE also learns tokens that end in the middle of a Chinese character and begin in the one before; a small model that samples
/// one of those and then errs prints broken text. The files are ordinary merges all the same, and any reader of them encodes as this tool does.
/// </remarks>
internal sealed class BpeTrainer
{
    private readonly Dictionary<string, long> _pieces = new(StringComparer.Ordinal);

    /// <summary>Counts a text's pieces.</summary>
    /// <param name="text">Plain text; control tokens do not belong in it.</param>
    /// <param name="weight">How often the text counts: a language with less text can be given its fair share of the merges.</param>
    public void Add(string text, long weight = 1)
    {
        foreach (string piece in PreTokenizer.Split(text))
        {
            _pieces[piece] = _pieces.GetValueOrDefault(piece) + weight;
        }
    }

    /// <summary>Learns until the vocabulary holds <paramref name="ranks"/> tokens or no pair occurs twice.</summary>
    public Vocabulary Train(int ranks)
    {
        if (ranks < 256)
        {
            throw new OptionException($"a byte-level vocabulary has at least the 256 bytes; {ranks} ranks were asked for");
        }

        List<byte[]> tokens = Vocabulary.SingleBytes();
        List<(int Left, int Right)> merges = [];
        PairCounts pairs = new(ToWords(tokens));
        while (tokens.Count < ranks && pairs.TakeMostFrequent() is { } best)
        {
            byte[] merged = [.. tokens[best.Left], .. tokens[best.Right]];
            if (!IsWholeOrPrefix(merged))
            {
                continue;
            }

            merges.Add(best);
            pairs.Merge(best, tokens.Count);
            tokens.Add(merged);
        }
        return new Vocabulary(tokens, merges);
    }

    /// <summary>Whether the bytes are whole UTF-8 characters, or the first bytes of a single one.</summary>
    internal static bool IsWholeOrPrefix(ReadOnlySpan<byte> bytes)
    {
        int start = 0;
        while (start < bytes.Length)
        {
            System.Buffers.OperationStatus status = Rune.DecodeFromUtf8(bytes[start..], out _, out int length);
            if (status == System.Buffers.OperationStatus.NeedMoreData)
            {
                return start == 0;
            }

            if (status != System.Buffers.OperationStatus.Done)
            {
                return false;
            }

            start += length;
        }
        return true;
    }

    private List<(int[] Symbols, long Count)> ToWords(List<byte[]> singleBytes)
    {
        int[] ids = new int[256];
        for (int id = 0; id < 256; id++)
        {
            ids[singleBytes[id][0]] = id;
        }

        List<(int[], long)> words = new(_pieces.Count);
        foreach ((string piece, long count) in _pieces.OrderBy(entry => entry.Key, StringComparer.Ordinal))
        {
            words.Add((Array.ConvertAll(Encoding.UTF8.GetBytes(piece), value => ids[value]), count));
        }

        return words;
    }
}
