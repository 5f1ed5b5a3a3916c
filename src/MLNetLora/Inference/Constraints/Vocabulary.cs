using System.Runtime.CompilerServices;
using MLNetLora.Text;

namespace MLNetLora.Inference.Constraints;

/// <summary>
/// A tokenizer's tokens as constraints see them, and the masks that were made for them, the least recently used of which go where they become too many.
/// Thread-safe.
/// </summary>
internal sealed class Vocabulary
{
    /// <summary>Bytes of masks that are kept for a tokenizer.</summary>
    private const long MostBytes = 64L << 20;

    /// <summary>Most bytes of a short token: nearly all are. Of counters it matters only whether they are larger, so that few states differ.</summary>
    private const int ShortToken = 32;

    private static readonly ConditionalWeakTable<QwenTokenizer, Vocabulary> s_all = [];

    private readonly Lock _lock = new();
    private readonly Dictionary<object, LinkedListNode<(object Key, TermMask Mask)>> _masks = [];
    private readonly LinkedList<(object Key, TermMask Mask)> _recent = [];
    private readonly QwenTokenizer _tokenizer;
    private long _bytes;

    private Vocabulary(QwenTokenizer tokenizer)
    {
        _tokenizer = tokenizer;
        ILookup<bool, (int, byte[])> tokens = TokenTrie.OfAnswers(tokenizer).ToLookup(token => token.Bytes.Length <= ShortToken);
        Tries = [new TokenTrie(tokens[true]), new TokenTrie(tokens[false])];
        Words = (tokenizer.VocabularySize + 63) / 64;
    }

    /// <summary>The short tokens, and the others.</summary>
    public IReadOnlyList<TokenTrie> Tries { get; }

    /// <summary>How many numbers of 64 bits have a bit for each token.</summary>
    public int Words { get; }

    /// <summary>The tokens of a tokenizer; made once.</summary>
    public static Vocabulary Of(QwenTokenizer tokenizer) => s_all.GetValue(tokenizer, tokenizer => new Vocabulary(tokenizer));

    /// <summary>The bytes that a token adds to an answer; none for control tokens.</summary>
    public ReadOnlySpan<byte> Bytes(int token) => _tokenizer.Bytes(token, skipSpecialTokens: true);

    /// <summary>What was made for a state; null where nothing was, or it is forgotten.</summary>
    public TermMask? Find(object key)
    {
        lock (_lock)
        {
            if (!_masks.TryGetValue(key, out LinkedListNode<(object Key, TermMask Mask)>? node))
            {
                return null;
            }

            if (node != _recent.First)
            {
                _recent.Remove(node);
                _recent.AddFirst(node);
            }

            return node.Value.Mask;
        }
    }

    /// <summary>Keeps what was made for a state.</summary>
    public void Keep(object key, TermMask mask)
    {
        lock (_lock)
        {
            if (!_masks.TryAdd(key, new LinkedListNode<(object, TermMask)>((key, mask))))
            {
                return; // another thread was faster
            }

            _recent.AddFirst(_masks[key]);
            _bytes += mask.Size;
            while (_bytes > MostBytes && _recent.Last is { } last)
            {
                _recent.RemoveLast();
                _masks.Remove(last.Value.Key);
                _bytes -= last.Value.Mask.Size;
            }
        }
    }
}

/// <summary>The tokens that may come in a state.</summary>
/// <param name="Tokens">Those that stay in its term.</param>
/// <param name="Exits">Nodes of each tree where the term may be at its end within a token.</param>
internal sealed record TermMask(TokenSet Tokens, int[][] Exits)
{
    /// <summary>About how many bytes it takes, the key and its place among the others included.</summary>
    public int Size { get; } = 256 + Tokens.Size + Exits.Sum(exits => exits.Length * sizeof(int));
}
