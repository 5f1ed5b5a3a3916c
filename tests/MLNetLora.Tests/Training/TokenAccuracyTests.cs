using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Which tokens an evaluation takes for the model's own, against logits: those of PyTorch, and of adapters those of the graph.</summary>
public sealed class TokenAccuracyTests(Xunit.Abstractions.ITestOutputHelper output) : IDisposable
{
    private const double Gap = 1e-2; // of the two largest logits, far above the errors of float32

    private readonly TemporaryFolder _folder = new();

    public static TheoryData<int, int, int> Plans => new() { { 1, 1, 1 }, { 3, 2, 1 }, { 2, 1, 4 } };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [Trait("Category", "Golden")]
    [MemberData(nameof(Plans))]
    public void Tokens_with_PyTorch_s_largest_logit_count(int chunks, int attention, int vocabulary)
    {
        GoldenReport report = new("token accuracy", output);
        foreach (string folder in Golden.Folders("forward").Where(folder => File.Exists(Path.Combine(folder, "batch.safetensors"))))
        {
            string name = Path.GetFileName(folder);
            string model = Directory.EnumerateDirectories(Golden.Beside(folder, "models"))
                .Where(path => name.StartsWith(Path.GetFileName(path), StringComparison.Ordinal)).MaxBy(path => path.Length)!;
            if (GoldenFile.Unsupported(model) is { } reason)
            {
                report.Skip(name, reason);
                continue;
            }

            GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
            IReadOnlyList<TrainingRow> rows = new GoldenFile(Path.Combine(folder, "batch.safetensors")).Rows();
            (float[] logits, long width) = (expected.Floats("logits"), expected.Shape("logits")[1]);
            Checkpoint checkpoint = Checkpoint.Open(model);
            TrainingTarget target = new(checkpoint.Config, checkpoint.Architecture, checkpoint, [], 0);
            report.Compare(name, Wrong(target, LoraAdapter.None(model), new ChunkPlan(chunks, attention, false, vocabulary), rows, (row, token) =>
                logits.AsSpan((int)((row * width) + token) * checkpoint.Config.VocabSize, checkpoint.Config.VocabSize).ToArray()), 0);
        }

        report.Finish();
    }

    [Theory]
    [MemberData(nameof(Plans))]
    public void Trained_rows_of_the_vocabulary_count_with_their_new_logits(int chunks, int attention, int vocabulary)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File($"base"), tied: true);
        LoraOptions lora = new() { Rank = 2, Alpha = 64, TargetModules = ["q_proj", "v_proj"], TrainableTokenIndices = [3, 17] };
        Random random = new(2);
        TrainingRow[] rows = [TinyModel.Row(random, 9), TinyModel.Row(random, 14)];
        TrainingOptions options = new() { LearningRate = 0.1, NumberOfEpochs = 10, GradientAccumulationSteps = 1 };
        (LoraAdapter adapter, _) = LoraTraining.Train(checkpoint, lora, rows, options);
        TrainingTarget target = TrainingTarget.Lora(checkpoint, lora);
        int changed = 0;
        Assert.Equal(0, Wrong(target, adapter, new ChunkPlan(chunks, attention, false, vocabulary), rows, (row, token) =>
        {
            float[] logits = Logits(adapter, row, token);
            changed += Best(logits) != Best(Logits(null, row, token)) ? 1 : 0;
            return logits;
        }));
        Assert.True(changed > 0); // the test sees the adapter

        float[] Logits(LoraAdapter? with, int row, int token)
        {
            Batch batch = Batch.Of([rows[row]]) with { LabelPositions = [token], LabelIds = [0] };
            return LogitsRun.Run(checkpoint, with, batch).Logits;
        }
    }

    [Fact]
    public void Runs_say_the_share_for_their_validation_rows()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        Random random = new(3);
        TrainingRow[] rows = [.. Enumerable.Range(0, 3).Select(i => TinyModel.Row(random, 8 + i))];
        TrainingOptions options = new() { LearningRate = 0.05, NumberOfEpochs = 30, GradientAccumulationSteps = 1, BatchSize = 3 };
        LoraOptions lora = new() { Rank = 8, Dropout = 0, TargetModules = TargetModules.AllLinear };
        (LoraAdapter adapter, TrainingSummary summary) = LoraTraining.Train(checkpoint, lora, rows, options, validation: rows);
        TrainingProgress last = summary.Steps[^1];
        Batch batch = Batch.Of(rows);
        (double loss, float[] logits) = LogitsRun.Run(checkpoint, adapter, batch);
        int[] said = [.. logits.Chunk(TinyModel.Vocabulary).Select(Best)];
        double share = said.Zip(batch.LabelIds).Count(pair => pair.First == pair.Second) / (double)batch.LabelIds.Length;
        Assert.True(share > summary.Steps[0].ValidationTokenAccuracy, $"{share}"); // it learned something
        Assert.Equal(share, last.ValidationTokenAccuracy);
        Assert.Equal(Math.Exp(loss / batch.LabelIds.Length), last.ValidationPerplexity!.Value, 1e-4);
        Assert.All(LoraTraining.Train(checkpoint, lora, rows, options).Summary.Steps, step =>
            Assert.Equal((null, null, null), (step.ValidationLoss, step.ValidationPerplexity, step.ValidationTokenAccuracy)));
    }

    /// <summary>How far the count is from what the logits say, where two of three labels have the largest one and the third the second.</summary>
    private static double Wrong(
        TrainingTarget target, LoraAdapter adapter, ChunkPlan plan, IReadOnlyList<TrainingRow> rows, Func<int, int, float[]> logits)
    {
        Batch batch = Batch.Of(rows, plan.Attention);
        List<long> positions = [];
        List<long> labels = [];
        int hits = 0;
        for (int row = 0; row < rows.Count; row++)
        {
            for (int token = 0; token < rows[row].InputIds.Length; token++)
            {
                float[] scores = logits(row, token);
                int[] order = [.. Enumerable.Range(0, scores.Length).OrderByDescending(v => scores[v]).Take(2)];
                if (scores[order[0]] - scores[order[1]] > Gap)
                {
                    bool isHit = positions.Count % 3 < 2;
                    hits += isHit ? 1 : 0;
                    positions.Add(((long)row * batch.Length) + token);
                    labels.Add(order[isHit ? 0 : 1]);
                }
            }
        }

        Assert.True(hits > 5 && positions.Count - hits > 2);
        TrainingOptions options = new() { Threads = 1 };
        using ParameterSet parameters = new(target.Trainables);
        LoraParameters.Load(parameters, adapter);
        using EvaluationSession session = new(target, options, plan, weights: null, device: null, CancellationToken.None);
        TokenSums sums = session.Run(batch with { LabelPositions = [.. positions], LabelIds = [.. labels] },
            parameters.Tensors.ToDictionary(tensor => tensor.Name, tensor => parameters.View(parameters.Values, tensor.Name)), CancellationToken.None);
        Assert.Equal(positions.Count, sums.Labels);
        return Math.Abs(sums.Correct - hits);
    }

    private static int Best(float[] logits) => Array.IndexOf(logits, logits.Max());
}
