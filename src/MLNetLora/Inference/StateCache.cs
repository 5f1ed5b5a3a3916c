using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>
/// What a model keeps of the tokens so far, for one batch: whatever states its family declares, such as keys and values. Past and present are the same memory:
/// the graph writes new tokens in place. What has numbers for each token grows with what is written: an answer may have 32,000 tokens and mostly has a few
/// hundred.
/// </summary>
internal sealed class StateCache : IDisposable
{
    private const int Step = 64; // capacities are multiples of it

    private readonly CacheState[] _states;
    private readonly int _batch;
    private readonly int _limit;
    private readonly Memory?[] _memory;
    private readonly DeviceMemory? _device;
    private readonly ElementType _tokenType;

    /// <summary>A cache that holds nothing yet.</summary>
    /// <param name="states">What it holds.</param>
    /// <param name="batch">Rows.</param>
    /// <param name="limit">Most tokens that a row will ever have.</param>
    /// <param name="device">The memory of a device; null for the process's.</param>
    /// <param name="tokenType">Type of the numbers for each token; others are float32.</param>
    public StateCache(
        IEnumerable<CacheState> states, int batch, int limit, DeviceMemory? device = null, ElementType tokenType = ElementType.Float32)
    {
        (_device, _tokenType) = (device, tokenType);
        _states = [.. states];
        _batch = batch;
        _limit = limit;
        _memory = new Memory?[_states.Length];
    }

    /// <summary>Tokens per row for which there is memory.</summary>
    public int Capacity { get; private set; }

    /// <summary>Makes room; what was written stays.</summary>
    /// <param name="tokens">Tokens per row, at most the limit.</param>
    /// <exception cref="NativeMemoryException">There is too little memory.</exception>
    public void Reserve(int tokens)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(tokens, _limit);
        if (tokens <= Capacity)
        {
            return;
        }

        // By a half at least, so that a token is copied about twice in its life, whatever the length.
        long wanted = Math.Max(tokens, Capacity + (Capacity / 2L));
        int capacity = (int)Math.Min(_limit, (wanted + Step - 1) / Step * Step);

        // One after another: old and new memory together are one state more than the new, not twice as much.
        for (int i = 0; i < _states.Length; i++)
        {
            if (_memory[i] is not { } old)
            {
                _memory[i] = New(i, capacity);
            }
            else if (_states[i].IsPerToken)
            {
                Memory grown = New(i, capacity);
                grown.Take(old);
                old.Dispose();
                _memory[i] = grown;
            }
        }

        Capacity = capacity;
    }

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
            Memory memory = _memory[i]!;
            NativeTensor value = memory.Whole;
            if (rows != _batch)
            {
                value = memory.Rows(firstRow, rows);
                owned.Add(value);
            }

            inputs["past." + _states[i].Name] = value;
            outputs["present." + _states[i].Name] = value;
        }
    }

    private Memory New(int state, int capacity) =>
        new(_states[state], _states[state].IsPerToken ? _tokenType : ElementType.Float32, _batch, capacity, _device);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Memory? memory in _memory)
        {
            memory?.Dispose();
        }
    }

    /// <summary>One state of all rows: [batch, …], and [batch, …, capacity, d] where it has numbers for each token.</summary>
    private sealed class Memory : IDisposable
    {
        private readonly NativeBuffer _memory;
        private readonly CacheState _state;
        private readonly ElementType _type;
        private readonly int _batch;
        private readonly int _capacity;

        public Memory(CacheState state, ElementType type, int batch, int capacity, DeviceMemory? device)
        {
            (_state, _type, _batch, _capacity) = (state, type, batch, capacity);
            _memory = new NativeBuffer(batch * RowBytes, "the cache of the tokens so far", device, isOfOneCall: true);
            try
            {
                Whole = Rows(0, batch);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        /// <summary>All rows.</summary>
        public NativeTensor Whole { get; }

        private long Numbers => _state.Shape.Aggregate(1L, (product, size) => checked(product * size)); // of a row, or of a token

        private int NumberBytes => _type == ElementType.Float32 ? sizeof(float) : sizeof(short);

        private long RowBytes => checked(Numbers * (_state.IsPerToken ? _capacity : 1) * NumberBytes);

        /// <summary>Some rows.</summary>
        public NativeTensor Rows(int first, int rows)
        {
            long[] shape = _state.IsPerToken ? [rows, .. _state.Shape.SkipLast(1), _capacity, _state.Shape[^1]] : [rows, .. _state.Shape];
            return _memory.View(_type, first * RowBytes, shape, rows * RowBytes);
        }

        /// <summary>Copies what a smaller one holds, head by head.</summary>
        public void Take(Memory old)
        {
            long d = _state.Shape[^1] * NumberBytes;
            long heads = _batch * (Numbers / _state.Shape[^1]);
            for (long i = 0; i < heads; i++)
            {
                old._memory.CopyTo(i * old._capacity * d, _memory, i * _capacity * d, old._capacity * d);
            }
        }

        public void Dispose()
        {
            Whole?.Dispose(); // not there yet where the constructor failed
            _memory.Dispose();
        }
    }
}
