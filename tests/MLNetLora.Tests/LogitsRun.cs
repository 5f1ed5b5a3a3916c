using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests;

/// <summary>Loss and logits of the evaluation graph, with or without an adapter.</summary>
internal static class LogitsRun
{
    /// <summary>Worst error of the logits at the rows' tokens, over 1 + |expected|.</summary>
    public static double Worst(
        Checkpoint checkpoint, LoraAdapter? adapter, IReadOnlyList<TrainingRow> rows, GoldenFile expected, string key, bool expertsInBlocks = false)
    {
        Batch batch = Batch.Of(rows);
        long[] every = [.. rows.SelectMany((row, r) => Enumerable.Range(0, row.InputIds.Length).Select(i => ((long)r * batch.Length) + i))];
        (_, float[] logits) = Run(checkpoint, adapter, batch with { LabelPositions = every, LabelIds = new long[every.Length] }, expertsInBlocks);
        float[] want = expected.Floats(key);
        (long width, int vocabulary) = (expected.Shape(key)[1], checkpoint.Config.VocabSize);
        double worst = 0;
        for (int i = 0; i < every.Length; i++)
        {
            (long r, long s) = (every[i] / batch.Length, every[i] % batch.Length);
            for (int v = 0; v < vocabulary; v++)
            {
                float e = want[(((r * width) + s) * vocabulary) + v];
                worst = Math.Max(worst, Math.Abs((double)logits[(i * vocabulary) + v] - e) / (1 + Math.Abs(e)));
            }
        }

        return worst;
    }

    /// <summary>Sum of the token losses, and the logits at the labelled positions.</summary>
    public static (double Loss, float[] Logits) Run(Checkpoint checkpoint, LoraAdapter? adapter, Batch batch, bool expertsInBlocks = false)
    {
        TrainingTarget target = new(checkpoint.Config, checkpoint.Architecture, checkpoint, [.. (adapter?.Factors ?? []).Select(f => f.Module)], 0)
        {
            Saved = adapter?.Parts.Saved ?? [],
            Tokens = adapter?.Parts.Tokens,
        };
        GraphBuilder graph = new("evaluation") { ExpertsInBlocks = expertsInBlocks };
        using OnnxSession session = new(TrainingModel.Evaluation(target, ChunkPlan.Whole, logits: true, graph), SessionUse.Training, 1);
        using GraphInputs shared = new(target.Config, training: false);
        Dictionary<string, NativeTensor> inputs = [];
        List<NativeTensor> owned = [];
        foreach ((AdapterTensor tensor, float[] values) in adapter?.Tensors ?? [])
        {
            owned.Add(inputs[tensor.Key] = Tensors.Of(values, [.. tensor.Shape]));
        }

        shared.Add(batch, 1f, ChunkPlan.Whole, inputs, owned);
        using NativeTensors results = session.Run(inputs.Keys, inputs.Values, ["loss", "logits"]);
        owned.ForEach(value => value.Dispose());
        return (results[0].Span<float>()[0], results[1].Span<float>().ToArray());
    }

    /// <summary>The tensor of a golden file whose name holds a word.</summary>
    public static string Key(GoldenFile file, string word) => file.Names.Single(name => name.Contains(word, StringComparison.Ordinal));
}
