using System.Runtime.CompilerServices;
using MLNetLora.Text;

namespace MLNetLora.Inference.Constraints;

/// <summary>
/// A tokenizer's tokens as constraints see them, and the masks that were made for them. A mask goes with the grammar whose state it was made for; where they
/// become too many, those go that were not used for the longest time. Thread-safe.
/// </summary>
internal sealed class Vocabulary
{
    /// <summary>Bytes of masks that are kept for a tokenizer.</summary>
    private const long MostBytes = 64L << 20;

    /// <summary>Most bytes of a short token: nearly all are. Of counters it matters only whether they are larger, so that few states differ.</summary>
    private const int ShortToken = 32;

    private static readonly ConditionalWeakTable<QwenTokenizer, Vocabulary> s_all = [];

    private readonly Lock _lock = new();
    private readonly ConditionalWeakTable<object, LinkedListNode<Kept>>[] _masks = [[], []]; // by tree; holds no grammar that nobody else has any more
    private readonly LinkedList<Kept> _recent = [];
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
    /// <param name="state">The state, or a term of it.</param>
    /// <param name="trie">Of which tokens, where it is a term.</param>
    public TermMask? Find(object state, int trie = 0)
    {
        lock (_lock)
        {
            if (!_masks[trie].TryGetValue(state, out LinkedListNode<Kept>? node))
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
    /// <param name="state">The state, or a term of it.</param>
    /// <param name="mask">What was made.</param>
    /// <param name="trie">Of which tokens, where it is a term.</param>
    public void Keep(object state, TermMask mask, int trie = 0)
    {
        lock (_lock)
        {
            LinkedListNode<Kept> node = new(new Kept(new WeakReference<object>(state), trie, mask));
            if (!_masks[trie].TryAdd(state, node))
            {
                return; // another thread was faster
            }

            _recent.AddFirst(node);
            _bytes += mask.Size;
            while (_bytes > MostBytes && _recent.Last is { } last)
            {
                _recent.RemoveLast();
                if (last.Value.State.TryGetTarget(out object? old))
                {
                    _masks[last.Value.Trie].Remove(old);
                }

                _bytes -= last.Value.Mask.Size;
            }
        }
    }

    /// <summary>A mask among those that were used last.</summary>
    /// <param name="State">What it was made for.</param>
    /// <param name="Trie">Of which tokens.</param>
    /// <param name="Mask">The mask.</param>
    private readonly record struct Kept(WeakReference<object> State, int Trie, TermMask Mask);
}

/// <summary>The tokens that may come in a state.</summary>
/// <param name="Tokens">Those that stay in its term.</param>
/// <param name="Exits">Nodes of each tree where the term may be at its end within a token.</param>
internal sealed record TermMask(TokenSet Tokens, int[][] Exits)
{
    /// <summary>About how many bytes it takes, the key and its place among the others included.</summary>
    public int Size { get; } = 256 + Tokens.Size + Exits.Sum(exits => exits.Length * sizeof(int));
}
