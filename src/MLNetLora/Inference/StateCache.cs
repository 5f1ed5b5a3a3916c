using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>A place in a cache.</summary>
/// <param name="Row">The row.</param>
/// <param name="Token">The token, which only states that have numbers for each look at.</param>
internal readonly record struct RowPart(int Row, int Token);

/// <summary>
/// What a model keeps of the tokens so far, for some rows: whatever states its family declares, such as keys and values. Past and present are the same memory:
/// the graph writes new tokens in place. A row is one block of each state, so the first rows of the memory are a batch, and a row that ends gives its place to
/// the last. Rows and tokens grow with what is written: an answer may have 32,000 tokens and mostly has a few hundred.
/// </summary>
internal sealed class StateCache : IDisposable
{
    private const int Step = 64; // capacities are multiples of it

    private readonly CacheState[] _states;
    private readonly Memory?[] _memory;
    private readonly DeviceMemory? _device;
    private readonly ElementType _tokenType;
    private int _rows; // for which there is memory

    /// <summary>A cache that holds nothing yet.</summary>
    /// <param name="states">What it holds.</param>
    /// <param name="device">The memory of a device; null for the process's.</param>
    /// <param name="tokenType">Type of the numbers for each token; others are float32.</param>
    public StateCache(IEnumerable<CacheState> states, DeviceMemory? device = null, ElementType tokenType = ElementType.Float32)
    {
        (_device, _tokenType) = (device, tokenType);
        _states = [.. states];
        _memory = new Memory?[_states.Length];
    }

    /// <summary>Tokens per row for which there is memory.</summary>
    public int Capacity { get; private set; }

    /// <summary>Bytes for which there is memory.</summary>
    public long Bytes => _memory.Sum(memory => memory?.Bytes ?? 0);

    /// <summary>Makes room; what was written stays.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="tokens">Tokens per row.</param>
    /// <param name="limit">Most tokens that a row will ever have, as far as is known.</param>
    /// <param name="written">Tokens that each row has; of those behind nothing stays. What is not copied takes no memory where the system gives pages when
    /// they are written: one long row beside many short ones.</param>
    /// <exception cref="NativeMemoryException">There is too little memory; what was written is there as before.</exception>
    public void Reserve(int rows, int tokens, int limit, IReadOnlyList<int> written)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(tokens, limit);
        if (tokens <= Capacity && rows <= _rows)
        {
            return;
        }

        // By a half at least, so that a token is copied about twice in its life, whatever the length; or, where memory is short, as little as will do.
        (int Rows, int Tokens) least = (Math.Max(rows, _rows), tokens <= Capacity ? Capacity : Rounded(tokens));
        (int Rows, int Tokens) ample = (rows <= _rows ? _rows : Math.Max(rows, _rows + (_rows / 2)),
            tokens <= Capacity ? Capacity : Math.Max(least.Tokens, Rounded(Capacity + (Capacity / 2L))));
        try
        {
            Grow(ample.Rows, ample.Tokens, written);
        }
        catch (NativeMemoryException) when (ample != least)
        {
            Grow(least.Rows, least.Tokens, written);
        }

        int Rounded(long wanted) => (int)Math.Min(limit, (wanted + Step - 1) / Step * Step);
    }

    private void Grow(int rows, int capacity, IReadOnlyList<int> written)
    {
        // One after another: old and new memory together are one state more than the new, not twice as much.
        for (int i = 0; i < _states.Length; i++)
        {
            if (_memory[i] is not { } old)
            {
                _memory[i] = New(i, rows, capacity);
            }
            else if (!old.Holds(rows, capacity)) // some do where there was too little memory for others the last time
            {
                Memory grown = New(i, rows, capacity);
                for (int row = 0; row < Math.Min(written.Count, _rows); row++)
                {
                    grown.Take(old, new RowPart(row, 0), new RowPart(row, 0), written[row]);
                }

                old.Dispose();
                _memory[i] = grown;
            }
        }

        (_rows, Capacity) = (rows, capacity);
    }

    /// <summary>Copies what a row has to another, whose own is lost.</summary>
    /// <param name="from">The row.</param>
    /// <param name="to">The other.</param>
    /// <param name="tokens">Tokens that the row has.</param>
    public void Copy(int from, int to, int tokens) => Take(this, new RowPart(from, 0), new RowPart(to, 0), tokens);

    /// <summary>Copies tokens of a row of another cache of the same states.</summary>
    /// <param name="other">The other.</param>
    /// <param name="from">Its row and the first token.</param>
    /// <param name="to">The row here, for which there is memory, and the first token's place.</param>
    /// <param name="tokens">How many.</param>
    public void Take(StateCache other, RowPart from, RowPart to, int tokens)
    {
        for (int i = 0; i < _states.Length; i++)
        {
            _memory[i]!.Take(other._memory[i]!, from, to, tokens);
        }
    }

    /// <summary>Bytes of a row in all states.</summary>
    /// <param name="states">The states.</param>
    /// <param name="tokenType">Type of the numbers for each token.</param>
    /// <param name="tokens">Its tokens.</param>
    public static long BytesOfRow(IEnumerable<CacheState> states, ElementType tokenType, int tokens) =>
        states.Sum(state => Memory.RowSize(state, state.IsPerToken ? tokenType : ElementType.Float32, tokens));

    /// <summary>Adds the past to a run's inputs and the present, the same memory, to its outputs.</summary>
    /// <param name="firstRow">The first row that takes part.</param>
    /// <param name="rows">How many.</param>
    /// <param name="inputs">Receives names and values.</param>
    /// <param name="outputs">Receives names and values.</param>
    /// <param name="owned">Receives the values that live for one run.</param>
    public void Add(int firstRow, int rows, Dictionary<string, NativeTensor> inputs, Dictionary<string, NativeTensor> outputs, List<NativeTensor> owned)
    {
        for (int i = 0; i < _states.Length; i++)
        {
            NativeTensor value = _memory[i]!.Rows(firstRow, rows);
            owned.Add(value);
            inputs["past." + _states[i].Name] = value;
            outputs["present." + _states[i].Name] = value;
        }
    }

    private Memory New(int state, int rows, int capacity) =>
        new(_states[state], _states[state].IsPerToken ? _tokenType : ElementType.Float32, rows, capacity, _device);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Memory? memory in _memory)
        {
            memory?.Dispose();
        }
    }

    /// <summary>One state of all rows: [rows, …], and [rows, …, capacity, d] where it has numbers for each token.</summary>
    private sealed class Memory(CacheState state, ElementType type, int rows, int capacity, DeviceMemory? device) : IDisposable
    {
        private readonly NativeBuffer _memory = new(
            checked(rows * RowSize(state, type, capacity)), "the cache of the tokens so far", device, isOfOneCall: true);
        private readonly long _rowBytes = RowSize(state, type, capacity);
        private readonly int _rows = rows;
        private readonly int _capacity = capacity;

        private static int NumberBytes(ElementType type) => type == ElementType.Float32 ? sizeof(float) : sizeof(short);

        public static long RowSize(CacheState state, ElementType type, int capacity) => checked(
            state.Shape.Aggregate(1L, (product, size) => checked(product * size)) * (state.IsPerToken ? capacity : 1) * NumberBytes(type));

        /// <summary>Of all rows.</summary>
        public long Bytes => _rows * _rowBytes;

        /// <summary>Whether there is room for rows of so many tokens.</summary>
        public bool Holds(int rowCount, int tokens) => _rows >= rowCount && (_capacity >= tokens || !state.IsPerToken);

        /// <summary>Some rows.</summary>
        public NativeTensor Rows(int first, int count)
        {
            long[] shape = state.IsPerToken ? [count, .. state.Shape.SkipLast(1), _capacity, state.Shape[^1]] : [count, .. state.Shape];
            return _memory.View(type, first * _rowBytes, shape, count * _rowBytes);
        }

        /// <summary>Copies a row, head by head where it has numbers for each token.</summary>
        public void Take(Memory other, RowPart from, RowPart to, int tokens)
        {
            if (!state.IsPerToken)
            {
                other._memory.CopyTo(from.Row * _rowBytes, _memory, to.Row * _rowBytes, _rowBytes);
                return;
            }

            long d = state.Shape[^1] * NumberBytes(type);
            long heads = _rowBytes / d / _capacity;
            for (long i = 0; i < heads; i++)
            {
                long source = ((((from.Row * heads) + i) * other._capacity) + from.Token) * d;
                other._memory.CopyTo(source, _memory, ((((to.Row * heads) + i) * _capacity) + to.Token) * d, tokens * d);
            }
        }

        public void Dispose() => _memory.Dispose();
    }
}
