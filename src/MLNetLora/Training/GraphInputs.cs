using System.Numerics;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Onnx.Differentiable;
using MLNetLora.Runtime;

namespace MLNetLora.Training;

/// <summary>Inputs of training graphs, or of evaluation graphs; the rotary tables are made once.</summary>
/// <param name="config">The model.</param>
/// <param name="training">Whether rows longer than what the model was trained with are rotated as training does, which is as all others.</param>
/// <param name="captured">The memory of a device that the tables are in, where runs are captured: numbers of labels are then those of
/// <see cref="CapturedRuns.Padded"/>. Else null.</param>
internal sealed class GraphInputs(QwenConfig config, bool training, DeviceMemory? captured = null) : IDisposable
{
    private const int FirstPositions = 512;

    private readonly RotaryInputs _rotary = new(config, captured);

    /// <summary>The windows that the layers have; int.MaxValue for full attention.</summary>
    private IEnumerable<int> Windows => config.SlidingWindows.Select(window => window ?? int.MaxValue).Distinct();

    /// <summary>Adds the inputs of a batch; the caller disposes what is in <paramref name="owned"/>.</summary>
    /// <param name="batch">Rows.</param>
    /// <param name="weight">What each label counts.</param>
    /// <param name="plan">How the graph is cut: the number of labels is padded to a multiple of its parts.</param>
    /// <param name="inputs">Receives names and values.</param>
    /// <param name="owned">Receives the values that live for one run.</param>
    public void Add(Batch batch, float weight, ChunkPlan plan, Dictionary<string, NativeTensor> inputs, List<NativeTensor> owned)
    {
        int chunks = plan.Loss;
        int asked = captured is null ? batch.LabelIds.Length : CapturedRuns.Padded(batch.LabelIds.Length);
        int labels = Math.Max(chunks, (asked + chunks - 1) / chunks * chunks);
        float[] weights = new float[labels];
        weights.AsSpan(0, batch.LabelIds.Length).Fill(weight);
        long[] positions = batch.LabelPositions;
        long[] ids = batch.LabelIds;
        Array.Resize(ref positions, labels);
        Array.Resize(ref ids, labels);

        // The last position of a batch predicts nothing, so no label shares its row with the padding.
        positions.AsSpan(batch.LabelPositions.Length).Fill(((long)batch.Rows * batch.Length) - 1);
        Own("input_ids", Tensors.Of(batch.InputIds, batch.Rows, batch.Length));
        Own("position_ids", Tensors.Of(Positions(batch), batch.Rows, batch.Length));
        Own("label_positions", Tensors.Of(positions, labels));
        Own("label_ids", Tensors.Of(ids, labels));
        Own("label_weights", Tensors.Of(weights, labels));
        _rotary.Add(inputs, training);
        foreach (int window in Windows)
        {
            int rows = batch.Segments is null ? 1 : batch.Rows; // without packing every row sees the same
            string name = window == int.MaxValue ? "first_keys" : "sliding_first_keys";
            long[] firsts = FirstKeys(batch, rows, window);
            Own(name, Tensors.Of(firsts, rows, batch.Length));
            foreach ((string bound, long[] values) in CausalMask.Bounds(name, firsts, rows, plan.Attention))
            {
                Own(bound, Tensors.Of(values, values.Length));
            }
        }

        void Own(string name, NativeTensor value)
        {
            inputs[name] = value;
            owned.Add(value);
        }
    }

    /// <summary>Makes the tables of rotations for the longest rows that will come, so that their addresses stay.</summary>
    public void Reserve(int length) => _rotary.Reserve(Math.Max(length, FirstPositions));

    /// <inheritdoc/>
    public void Dispose() => _rotary.Dispose();

    /// <summary>Makes the tables for a batch: the numbers that its tokens' positions have in them.</summary>
    private long[] Positions(Batch batch)
    {
        long[] positions = batch.PositionIds;
        List<(int First, int End, int Section)> rows = [];
        for (int first = 0, end; first < positions.Length && !training; first = end)
        {
            end = first + 1;
            while (end < positions.Length && positions[end] != 0)
            {
                end++;
            }

            rows.Add((first, end, _rotary.Section(end - first)));
        }

        int needed = Math.Max(batch.Length, FirstPositions);
        _rotary.Reserve(captured is null ? needed : (int)BitOperations.RoundUpToPowerOf2((uint)needed)); // graphs captured before read tables that are gone
        if (rows.All(row => row.Section == 0))
        {
            return positions;
        }

        long[] shifted = new long[positions.Length];
        foreach ((int first, int end, int section) in rows)
        {
            for (int i = first; i < end; i++)
            {
                shifted[i] = _rotary.Start(section) + positions[i];
            }
        }

        return shifted;
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
