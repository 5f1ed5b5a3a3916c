using Microsoft.ML.OnnxRuntime;
using MLNetLora.Models;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>Inputs that training and evaluation graphs share: rotary tables made once, attention biases remembered while the length stays.</summary>
internal sealed class GraphInputs(QwenConfig config) : IDisposable
{
    private const float Masked = -1e30f; // far below any score, and no infinity that could turn into NaN

    private readonly List<OrtValue> _tables = [];
    private readonly Dictionary<int, OrtValue> _biases = [];
    private int _tableLength;
    private int _biasLength;

    /// <summary>The windows that the layers have; int.MaxValue for full attention.</summary>
    private IEnumerable<int> Windows => config.SlidingWindows.Select(window => window ?? int.MaxValue).Distinct();

    /// <summary>Adds the inputs of a batch; the caller disposes what is in <paramref name="owned"/>.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="weight">What each label counts.</param>
    /// <param name="chunks">The number of labels is padded to a multiple of it.</param>
    /// <param name="inputs">Receives names and values.</param>
    /// <param name="owned">Receives the values that live for one run.</param>
    public void Add(Batch batch, float weight, int chunks, Dictionary<string, OrtValue> inputs, List<OrtValue> owned)
    {
        int labels = Math.Max(chunks, (batch.LabelIds.Length + chunks - 1) / chunks * chunks);
        float[] weights = new float[labels];
        weights.AsSpan(0, batch.LabelIds.Length).Fill(weight);
        long[] positions = batch.LabelPositions;
        long[] ids = batch.LabelIds;
        Array.Resize(ref positions, labels);
        Array.Resize(ref ids, labels);

        // The last position of a batch predicts nothing, so no label shares its row with the padding.
        positions.AsSpan(batch.LabelPositions.Length).Fill(((long)batch.Rows * batch.Length) - 1);
        Own("input_ids", Tensors.Of(batch.InputIds, batch.Rows, batch.Length));
        Own("position_ids", Tensors.Of(batch.PositionIds, batch.Rows, batch.Length));
        Own("label_positions", Tensors.Of(positions, labels));
        Own("label_ids", Tensors.Of(ids, labels));
        Own("label_weights", Tensors.Of(weights, labels));
        RopeTables(batch.Length, inputs);
        if (batch.Segments is null)
        {
            Biases(batch.Length, inputs);
            return;
        }

        foreach (int window in Windows)
        {
            Own(BiasName(window), Tensors.Of(BlockDiagonal(batch, window), batch.Rows, 1, batch.Length, batch.Length));
        }

        void Own(string name, OrtValue value)
        {
            inputs[name] = value;
            owned.Add(value);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _tables.ForEach(table => table.Dispose());
        foreach (OrtValue bias in _biases.Values)
        {
            bias.Dispose();
        }
    }

    private static string BiasName(int window) => window == int.MaxValue ? "attention_bias" : "sliding_attention_bias";

    private void RopeTables(int length, Dictionary<string, OrtValue> inputs)
    {
        if (length > _tableLength)
        {
            _tables.ForEach(table => table.Dispose());
            _tables.Clear();
            _tableLength = Math.Max(length, 512);
            (float[] cos, float[] sin) = config.Rope.Tables(config.HeadDim, _tableLength);
            _tables.Add(Tensors.Of(cos, _tableLength, config.HeadDim / 2));
            _tables.Add(Tensors.Of(sin, _tableLength, config.HeadDim / 2));
        }

        inputs["rope_cos"] = _tables[0];
        inputs["rope_sin"] = _tables[1];
    }

    private void Biases(int length, Dictionary<string, OrtValue> inputs)
    {
        if (length != _biasLength)
        {
            foreach (OrtValue bias in _biases.Values)
            {
                bias.Dispose();
            }

            _biases.Clear();
            _biasLength = length;
            foreach (int window in Windows)
            {
                _biases[window] = Tensors.Of(Causal(length, window), 1, 1, length, length);
            }
        }

        foreach ((int window, OrtValue bias) in _biases)
        {
            inputs[BiasName(window)] = bias;
        }
    }

    /// <summary>A query sees itself and what came before it, as far back as the window reaches (int.MaxValue: all).</summary>
    private static float[] Causal(int length, int window)
    {
        float[] bias = new float[length * length];
        for (int i = 0; i < length; i++)
        {
            Span<float> row = bias.AsSpan(i * length, length);
            row[(i + 1)..].Fill(Masked);
            row[..Math.Max(0, i + 1 - window)].Fill(Masked);
        }

        return bias;
    }

    /// <summary>As <see cref="Causal"/>, but nothing is seen across the border of a packed row.</summary>
    private static float[] BlockDiagonal(Batch batch, int window)
    {
        int length = batch.Length;
        float[] bias = new float[batch.Rows * length * length];
        for (int r = 0; r < batch.Rows; r++)
        {
            ReadOnlySpan<int> segments = batch.Segments.AsSpan(r * length, length);
            for (int i = 0, start = 0; i < length; i++)
            {
                start = i > 0 && segments[i] != segments[i - 1] ? i : start;
                Span<float> row = bias.AsSpan(((r * length) + i) * length, length);
                row[(i + 1)..].Fill(Masked);
                row[..Math.Max(start, i + 1 - window)].Fill(Masked);
            }
        }

        return bias;
    }
}
