using MLNetLora.Models;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>Keys and values of all layers for one batch, and the rotary tables for its positions. Past and present are the same memory: attention writes new tokens in place.</summary>
internal sealed class KeyValueCache : IDisposable
{
    private readonly List<(string Name, NativeTensor Value)> _layers = [];
    private readonly FloatBuffer _memory;
    private readonly NativeTensor _cos;
    private readonly NativeTensor _sin;

    /// <summary>Allocates a cache.</summary>
    /// <param name="config">The model.</param>
    /// <param name="batch">Rows.</param>
    /// <param name="capacity">Tokens per row.</param>
    public KeyValueCache(QwenConfig config, int batch, int capacity)
    {
        long[] shape = [batch, config.NumKeyValueHeads, capacity, config.HeadDim];
        long size = shape.Aggregate(1L, (product, axis) => product * axis);
        _memory = new FloatBuffer(size * config.NumHiddenLayers * 2);
        for (int i = 0; i < config.NumHiddenLayers; i++)
        {
            _layers.Add(($"{i}.key", _memory.View(size * 2 * i, shape)));
            _layers.Add(($"{i}.value", _memory.View(size * ((2 * i) + 1), shape)));
        }

        (float[] cos, float[] sin) = config.Rope.Tables(config.HeadDim, capacity);
        _cos = Tensors.Of(cos, capacity, config.HeadDim / 2);
        _sin = Tensors.Of(sin, capacity, config.HeadDim / 2);
    }

    /// <summary>Adds past and tables to a run's inputs and the present, the same memory, to its outputs.</summary>
    public void Add(Dictionary<string, NativeTensor> inputs, Dictionary<string, NativeTensor> outputs)
    {
        foreach ((string name, NativeTensor value) in _layers)
        {
            inputs["past." + name] = value;
            outputs["present." + name] = value;
        }

        inputs["rope_cos"] = _cos;
        inputs["rope_sin"] = _sin;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _cos.Dispose();
        _sin.Dispose();
        _memory.Dispose();
    }
}
