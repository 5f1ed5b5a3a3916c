using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>
/// Keys and values of all layers for one batch. Past and present are the same memory: attention writes new tokens in place.
/// It grows with what is written: an answer may have 32,000 tokens and mostly has a few hundred.
/// </summary>
internal sealed class KeyValueCache : IDisposable
{
    private const int Step = 64; // capacities are multiples of it

    private readonly QwenConfig _config;
    private readonly int _batch;
    private readonly int _limit;
    private readonly Layer?[] _layers;

    /// <summary>A cache that holds nothing yet.</summary>
    /// <param name="config">The model.</param>
    /// <param name="batch">Rows.</param>
    /// <param name="limit">Most tokens that a row will ever have.</param>
    public KeyValueCache(QwenConfig config, int batch, int limit)
    {
        _config = config;
        _batch = batch;
        _limit = limit;
        _layers = new Layer?[config.NumHiddenLayers];
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

        // Layer by layer: old and new memory together are one layer more than the new, not twice as much.
        for (int i = 0; i < _layers.Length; i++)
        {
            Layer grown = new(_config, _batch, capacity);
            if (_layers[i] is Layer old)
            {
                grown.Take(old);
                old.Dispose();
            }

            _layers[i] = grown;
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
        for (int i = 0; i < _layers.Length; i++)
        {
            Layer layer = _layers[i]!;
            if (rows == _batch)
            {
                Add($"{i}.key", layer.Key);
                Add($"{i}.value", layer.Value);
            }
            else
            {
                owned.Add(layer.Rows(0, firstRow, rows));
                Add($"{i}.key", owned[^1]);
                owned.Add(layer.Rows(1, firstRow, rows));
                Add($"{i}.value", owned[^1]);
            }
        }

        void Add(string name, NativeTensor value)
        {
            inputs["past." + name] = value;
            outputs["present." + name] = value;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (Layer? layer in _layers)
        {
            layer?.Dispose();
        }
    }

    /// <summary>Keys and values of one layer, [2, batch, heads, capacity, d].</summary>
    private sealed class Layer : IDisposable
    {
        private readonly NativeBuffer _memory;
        private readonly int _heads; // of all rows
        private readonly int _batch;
        private readonly int _capacity;
        private readonly int _d;

        public Layer(QwenConfig config, int batch, int capacity)
        {
            _batch = batch;
            _heads = batch * config.NumKeyValueHeads;
            _capacity = capacity;
            _d = config.HeadDim;
            _memory = new NativeBuffer(2 * Half, "the key-value cache");
            try
            {
                Key = Rows(0, 0, batch);
                Value = Rows(1, 0, batch);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public NativeTensor Key { get; }

        public NativeTensor Value { get; }

        private long HeadBytes => (long)_capacity * _d * sizeof(float);

        private long Half => _heads * HeadBytes;

        /// <summary>Some rows of the keys (0) or the values (1).</summary>
        public NativeTensor Rows(int which, int first, int rows)
        {
            int heads = _heads / _batch;
            return _memory.View(ElementType.Float32, (which * Half) + (first * heads * HeadBytes), [rows, heads, _capacity, _d], rows * heads * HeadBytes);
        }

        /// <summary>Copies what a smaller one holds.</summary>
        public void Take(Layer old)
        {
            int count = checked(old._capacity * _d);
            for (int i = 0; i < 2 * _heads; i++)
            {
                old._memory.Span<float>(i * old.HeadBytes, count).CopyTo(_memory.Span<float>(i * HeadBytes, count));
            }
        }

        public void Dispose()
        {
            Key?.Dispose(); // not there yet where the constructor failed
            Value?.Dispose();
            _memory.Dispose();
        }
    }
}
