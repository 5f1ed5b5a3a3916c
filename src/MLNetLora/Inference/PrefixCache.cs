using System.Runtime.InteropServices;
using MLNetLora.Models;

namespace MLNetLora.Inference;

/// <summary>
/// Keys and values of prompts that were read, so that a common beginning (system message, examples, a document that is asked about many times, the turns of a
/// conversation so far) is computed once. Kept in blocks of tokens, each behind the block before it, so that prompts share what they have in common; the blocks
/// that were not used for the longest time go first. An adapter's keys and values are its own: they are kept by its generation, and by the salt of who asks.
/// Thread-safe.
/// </summary>
/// <param name="graph">The model; one with recurrent layers has a state of all tokens so far instead, which cannot be cut into blocks.</param>
/// <param name="limit">Most bytes that it takes.</param>
internal sealed class PrefixCache(StepGraph graph, long limit) : IDisposable
{
    /// <summary>Tokens of a block, and the fewest that prompts must have in common to count.</summary>
    public const int BlockTokens = 64;

    // Products of few rows go other ways than those of many, with other roundings, which weights in 4 bits make larger: a prompt that is asked again is read
    // as it was the first time, as far as its scores depend on it.
    private const int LeastRead = 32;

    private readonly Lock _lock = new();
    private readonly Dictionary<(long Generation, string? Salt), Block> _roots = []; // without memory; there while something stands behind them
    private readonly LinkedList<Block> _blocks = []; // the last used first; a block stands before those behind it
    private readonly long _blockBytes = StateCache.BytesOfRow(graph.States, graph.CacheType, BlockTokens);
    private bool _isDisposed;

    /// <summary>Bytes that it takes now.</summary>
    public long Bytes
    {
        get
        {
            lock (_lock)
            {
                return _blocks.Count * _blockBytes;
            }
        }
    }

    /// <summary>Most bytes that it takes.</summary>
    public long Limit => limit;

    /// <summary>How many adapters and salts there is something of.</summary>
    internal int Roots
    {
        get
        {
            lock (_lock)
            {
                return _roots.Count;
            }
        }
    }

    /// <summary>Whether anything can be kept at all.</summary>
    public bool IsOn => limit >= _blockBytes && graph.Config.DeltaNet is null;

    /// <summary>How many tokens of a prompt are known; never all, since the scores behind the last are wanted: at least 32 are read.</summary>
    /// <param name="adapter">Who answers.</param>
    /// <param name="prompt">Token ids.</param>
    public int Find(RowAdapter adapter, ReadOnlySpan<int> prompt)
    {
        prompt = prompt[..Math.Max(0, prompt.Length - LeastRead)];
        lock (_lock)
        {
            List<Block> path = Path(adapter, prompt);
            return path.Count == 0 ? 0 : (path.Count * BlockTokens) + Part(path[^1], prompt[(path.Count * BlockTokens)..]).Tokens;
        }
    }

    /// <summary>Copies what is known of a prompt.</summary>
    /// <param name="adapter">Who answers.</param>
    /// <param name="prompt">Token ids.</param>
    /// <param name="cache">Receives it.</param>
    /// <param name="row">Its row, for which there is memory.</param>
    /// <returns>How many tokens were known.</returns>
    public int CopyTo(RowAdapter adapter, ReadOnlySpan<int> prompt, StateCache cache, int row)
    {
        prompt = prompt[..Math.Max(0, prompt.Length - LeastRead)];
        lock (_lock)
        {
            List<Block> path = Path(adapter, prompt);
            foreach ((int i, Block block) in path.Index())
            {
                cache.Take(block.Memory!, new RowPart(0, 0), new RowPart(row, i * BlockTokens), BlockTokens);
            }

            Use(path);
            int known = path.Count * BlockTokens;
            if (known == 0)
            {
                return 0;
            }

            (Block? next, int part) = Part(path[^1], prompt[known..]);
            if (next is not null)
            {
                cache.Take(next.Memory!, new RowPart(0, 0), new RowPart(row, known), part);
                Use([.. path, next]);
            }

            return known + part;
        }
    }

    /// <summary>Keeps a row's keys and values, as far as there is room.</summary>
    /// <param name="adapter">Who answers.</param>
    /// <param name="tokens">The tokens that the row has.</param>
    /// <param name="cache">What has it.</param>
    /// <param name="row">The row.</param>
    public void Keep(RowAdapter adapter, ReadOnlySpan<int> tokens, StateCache cache, int row)
    {
        lock (_lock)
        {
            if (_isDisposed || !IsOn)
            {
                return;
            }

            // Of a row that does not fit the beginning is kept.
            int most = (int)Math.Min(tokens.Length / BlockTokens, limit / _blockBytes);
            List<Block> path = Path(adapter, tokens);
            Use(path);
            for (int i = path.Count; i < most; i++)
            {
                while ((_blocks.Count + 1) * _blockBytes > limit)
                {
                    if (path.Contains(_blocks.Last!.Value))
                    {
                        return;
                    }

                    Free(_blocks.Last!.Value);
                }

                int[] ids = tokens.Slice(i * BlockTokens, BlockTokens).ToArray();
                StateCache memory = NewMemory(); // before there is a root that nothing stands behind
                Block block = new(path.Count == 0 ? Root(adapter) : path[^1], ids, memory);
                block.Memory!.Take(cache, new RowPart(row, i * BlockTokens), new RowPart(0, 0), BlockTokens);
                block.Parent!.Children.Add(ids, block);
                path.Add(block);
                Use(path);
            }
        }
    }

    /// <summary>Forgets what an adapter has computed, which nobody will ask for again.</summary>
    /// <param name="adapter">The adapter.</param>
    public void Forget(RowAdapter adapter)
    {
        lock (_lock)
        {
            for (LinkedListNode<Block>? node = _blocks.Last; node is not null;)
            {
                (Block block, node) = (node.Value, node.Previous);
                if (block.Root.Key.Generation == adapter.Generation)
                {
                    Free(block);
                }
            }
        }
    }

    /// <summary>Gives all memory back: what is answered needs it more.</summary>
    /// <returns>Whether there was any.</returns>
    public bool Clear()
    {
        lock (_lock)
        {
            bool any = _blocks.Count > 0;
            while (_blocks.Last is { } last)
            {
                Free(last.Value);
            }

            _roots.Clear();
            return any;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        lock (_lock)
        {
            _isDisposed = true;
            Clear();
        }
    }

    private StateCache NewMemory()
    {
        StateCache memory = new(graph.States, graph.Device, graph.CacheType);
        try
        {
            memory.Reserve(1, BlockTokens, BlockTokens, []);
            return memory;
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    private Block Root(RowAdapter adapter) =>
        CollectionsMarshal.GetValueRefOrAddDefault(_roots, (adapter.Generation, adapter.Salt), out _)
            ??= new Block(null, [], null) { Key = (adapter.Generation, adapter.Salt) };

    /// <summary>The blocks that tokens begin with.</summary>
    private List<Block> Path(RowAdapter adapter, ReadOnlySpan<int> tokens)
    {
        List<Block> path = [];
        if (!_roots.TryGetValue((adapter.Generation, adapter.Salt), out Block? at))
        {
            return path;
        }

        for (; tokens.Length >= BlockTokens; tokens = tokens[BlockTokens..])
        {
            if (!at.Children.GetAlternateLookup<ReadOnlySpan<int>>().TryGetValue(tokens[..BlockTokens], out at))
            {
                break;
            }

            path.Add(at);
        }

        return path;
    }

    /// <summary>The block behind another whose tokens others begin with for the longest.</summary>
    private static (Block? Block, int Tokens) Part(Block block, ReadOnlySpan<int> tokens)
    {
        (Block? best, int most) = (null, 0);
        foreach ((int[] ids, Block next) in block.Children)
        {
            int common = tokens.CommonPrefixLength(ids);
            if (common > most)
            {
                (best, most) = (next, common);
            }
        }

        return (best, most);
    }

    /// <summary>The blocks of a path become the last that go, the first of them the very last: whoever goes first has nothing behind it.</summary>
    private void Use(List<Block> path)
    {
        for (int i = path.Count - 1; i >= 0; i--)
        {
            if (path[i].Node.List is not null)
            {
                _blocks.Remove(path[i].Node);
            }

            _blocks.AddFirst(path[i].Node);
        }
    }

    private void Free(Block block)
    {
        _blocks.Remove(block.Node);
        block.Parent!.Children.Remove(block.Tokens);
        block.Memory!.Dispose();
        if (block.Parent == block.Root && block.Root.Children.Count == 0)
        {
            _roots.Remove(block.Root.Key); // salts come and go
        }
    }

    /// <summary>Some tokens behind others.</summary>
    private sealed class Block
    {
        public Block(Block? parent, int[] tokens, StateCache? memory)
        {
            (Parent, Tokens, Memory) = (parent, tokens, memory);
            Root = parent?.Root ?? this;
            Node = new LinkedListNode<Block>(this);
        }

        public Block? Parent { get; }

        public Block Root { get; }

        /// <summary>Of a root: whose it is.</summary>
        public (long Generation, string? Salt) Key { get; init; }

        public int[] Tokens { get; }

        public StateCache? Memory { get; }

        public LinkedListNode<Block> Node { get; }

        public Dictionary<int[], Block> Children { get; } = new(SameTokens.Instance);
    }

    /// <summary>Tokens that are equal one by one.</summary>
    private sealed class SameTokens : IEqualityComparer<int[]>, IAlternateEqualityComparer<ReadOnlySpan<int>, int[]>
    {
        public static readonly SameTokens Instance = new();

        public bool Equals(int[]? x, int[]? y) => x.AsSpan().SequenceEqual(y);

        public int GetHashCode(int[] obj) => GetHashCode(obj.AsSpan());

        public bool Equals(ReadOnlySpan<int> alternate, int[] other) => alternate.SequenceEqual(other);

        public int GetHashCode(ReadOnlySpan<int> alternate)
        {
            HashCode hash = default;
            hash.AddBytes(MemoryMarshal.AsBytes(alternate));
            return hash.ToHashCode(); // with a secret of the process: nobody chooses tokens that collide
        }

        public int[] Create(ReadOnlySpan<int> alternate) => alternate.ToArray();
    }
}
