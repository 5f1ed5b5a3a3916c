using System.Text;

namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>Encodes and decodes with a <see cref="Vocabulary"/>: enough for statistics, and the yardstick of the tests. Training uses the library's
/// own tokenizer.</summary>
internal sealed class ByteLevelBpe : ITextCodec
{
    private readonly Vocabulary _vocabulary;
    private readonly int[] _byteIds = new int[256];
    private readonly Dictionary<(int Left, int Right), int> _merged;
    private readonly Dictionary<string, int[]> _cache = new(StringComparer.Ordinal);

    public ByteLevelBpe(Vocabulary vocabulary)
    {
        _vocabulary = vocabulary;
        for (int id = 0; id < 256; id++)
        {
            _byteIds[vocabulary.Tokens[id][0]] = id;
        }

        _merged = new(vocabulary.Merges.Count);
        for (int i = 0; i < vocabulary.Merges.Count; i++)
        {
            _merged[vocabulary.Merges[i]] = 256 + i;
        }
    }

    public int Special(string content) => _vocabulary.SpecialId(content);

    /// <summary>The ids of a plain text; the name of a control token in it is text like any other.</summary>
    public IReadOnlyList<int> Encode(string text)
    {
        List<int> ids = [];
        foreach (string piece in PreTokenizer.Split(text))
        {
            if (!_cache.TryGetValue(piece, out int[]? encoded))
            {
                _cache[piece] = encoded = EncodePiece(piece);
            }

            ids.AddRange(encoded);
        }
        return ids;
    }

    public string Decode(IEnumerable<int> ids)
    {
        List<byte> bytes = [];
        foreach (int id in ids)
        {
            bytes.AddRange(id < _vocabulary.Tokens.Count ? _vocabulary.Tokens[id] : Encoding.UTF8.GetBytes(Vocabulary.Specials[id - _vocabulary.Tokens.Count]));
        }

        return Encoding.UTF8.GetString([.. bytes]);
    }

    private int[] EncodePiece(string piece)
    {
        List<int> symbols = [.. Encoding.UTF8.GetBytes(piece).Select(value => _byteIds[value])];
        while (true)
        {
            // The merge that was learned first goes first; its id is the smallest.
            int best = int.MaxValue;
            for (int i = 0; i + 1 < symbols.Count; i++)
            {
                if (_merged.TryGetValue((symbols[i], symbols[i + 1]), out int id) && id < best)
                {
                    best = id;
                }
            }

            if (best == int.MaxValue)
            {
                return [.. symbols];
            }

            (int left, int right) = _vocabulary.Merges[best - 256];
            for (int i = 0; i + 1 < symbols.Count; i++)
            {
                if (symbols[i] != left || symbols[i + 1] != right)
                {
                    continue;
                }

                symbols[i] = best;
                symbols.RemoveAt(i + 1);
            }
        }
    }
}
