using MLNetLora.Models;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>Inputs that training and evaluation graphs share; the rotary tables are made once.</summary>
internal sealed class GraphInputs(QwenConfig config) : IDisposable
{
    private readonly List<NativeTensor> _tables = [];
    private int _tableLength;

    /// <summary>The windows that the layers have; int.MaxValue for full attention.</summary>
    private IEnumerable<int> Windows => config.SlidingWindows.Select(window => window ?? int.MaxValue).Distinct();

    /// <summary>Adds the inputs of a batch; the caller disposes what is in <paramref name="owned"/>.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="weight">What each label counts.</param>
    /// <param name="chunks">The number of labels is padded to a multiple of it.</param>
    /// <param name="inputs">Receives names and values.</param>
    /// <param name="owned">Receives the values that live for one run.</param>
    public void Add(Batch batch, float weight, int chunks, Dictionary<string, NativeTensor> inputs, List<NativeTensor> owned)
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
        foreach (int window in Windows)
        {
            int rows = batch.Segments is null ? 1 : batch.Rows; // without packing every row sees the same
            Own(window == int.MaxValue ? "first_keys" : "sliding_first_keys", Tensors.Of(FirstKeys(batch, rows, window), rows, batch.Length));
        }

        void Own(string name, NativeTensor value)
        {
            inputs[name] = value;
            owned.Add(value);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _tables.ForEach(table => table.Dispose());

    private void RopeTables(int length, Dictionary<string, NativeTensor> inputs)
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

    /// <summary>The first key that each query sees: the start of its packed row, or as far back as the window reaches (int.MaxValue: all).</summary>
    public static long[] FirstKeys(Batch batch, int rows, int window)
    {
        int length = batch.Length;
        long[] firsts = new long[rows * length];
        for (int r = 0; r < rows; r++)
        {
            ReadOnlySpan<int> segments = batch.Segments is null ? default : batch.Segments.AsSpan(r * length, length);
            for (int i = 0, start = 0; i < length; i++)
            {
                start = i > 0 && !segments.IsEmpty && segments[i] != segments[i - 1] ? i : start;
                firsts[(r * length) + i] = Math.Max(start, i + 1 - window);
            }
        }

        return firsts;
    }
}
