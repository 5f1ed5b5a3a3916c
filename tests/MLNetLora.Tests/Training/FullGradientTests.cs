using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Training every parameter of a model: its gradients against central differences of the loss, and packed rows against the same rows apart.</summary>
public sealed class FullGradientTests
{
    [Theory]
    [InlineData("qwen2", true, false)]
    [InlineData("qwen2", false, true)]
    [InlineData("qwen", false, true)]
    [InlineData("qwen3", true, true)]
    [InlineData("qwen3", false, false)]
    [InlineData("qwen3_5_text", true, false)]
    [InlineData("qwen3_5_text", false, true)]
    [InlineData("qwen3_5", false, false)]
    public void Every_parameters_gradient_equals_the_central_difference(string modelType, bool tied, bool checkpointing)
    {
        using TemporaryFolder folder = new();
        TinyModel.WriteConfig(folder.Path, modelType, tied);
        TrainingTarget target = TrainingTarget.Full(MLNetLora.Models.QwenConfig.Read(folder.Path));
        using TrainingSession session = new(target, new TrainingOptions { Threads = 1, ActivationCheckpointing = checkpointing },
            tied ? ChunkPlan.Whole : new ChunkPlan(2, 3, RecomputeAttention: checkpointing));
        Random random = new(3);
        TinyModel.Fill(session.Parameters, random);
        Batch batch = Batch.Of([TinyModel.Row(random, 9), TinyModel.Row(random, 6)], session.Plan.Attention);
        session.Accumulate(batch, batch.LabelIds.Length);
        foreach (TrainableTensor tensor in target.Trainables)
        {
            float[] gradient = session.Parameters.Slice(session.Parameters.Gradients, tensor.Name).ToArray();
            float[] at = session.Parameters.Slice(session.Parameters.Values, tensor.Name).ToArray();
            float[] direction = [.. gradient.Select(_ => (random.NextSingle() * 2) - 1)];

            // The loss is around 3 with an error of 1e-7 of it; this step moves it by about 1e-2. Where a state goes from token to token the loss is more bent.
            double scale = gradient.Zip(direction, (g, d) => Math.Abs((double)g * d)).Sum();
            double move = target.Config.DeltaNet is null ? 0.02 : 0.005;
            float epsilon = (float)Math.Min(move, move / Math.Max(scale, 1e-6));
            double slope = (Loss(epsilon) - Loss(-epsilon)) / (2 * epsilon);
            double expected = gradient.Zip(direction, (g, d) => (double)g * d).Sum();
            Assert.True(Math.Abs(slope - expected) <= (5e-3 * scale) + 2e-5, $"{tensor.Name}: difference {slope}, gradient {expected}, scale {scale}");
            at.CopyTo(session.Parameters.Slice(session.Parameters.Values, tensor.Name));

            double Loss(float step)
            {
                Span<float> values = session.Parameters.Slice(session.Parameters.Values, tensor.Name);
                for (int i = 0; i < values.Length; i++)
                {
                    values[i] = at[i] + (step * direction[i]);
                }

                return session.Evaluate(batch).Loss / batch.LabelIds.Length;
            }
        }
    }

    [Theory]
    [InlineData("qwen2", 1)]
    [InlineData("qwen3", 1)]
    [InlineData("qwen2", 4)]
    [InlineData("qwen3", 4)]
    [InlineData("qwen", 4)]
    [InlineData("qwen3_5_text", 1)]
    [InlineData("qwen3_5_text", 4)]
    public void Packed_rows_give_the_loss_and_gradients_of_the_same_rows_apart(string modelType, int chunks)
    {
        using TemporaryFolder folder = new();
        TinyModel.WriteConfig(folder.Path, modelType, tied: true, slidingWindow: 4);
        TrainingTarget target = TrainingTarget.Full(MLNetLora.Models.QwenConfig.Read(folder.Path));
        using TrainingSession session = new(target, new TrainingOptions { Threads = 1 }, new ChunkPlan(chunks, chunks, RecomputeAttention: chunks > 1));
        Random random = new(5);
        TinyModel.Fill(session.Parameters, random);
        TrainingRow[] rows = [.. Enumerable.Range(0, 7).Select(i => TinyModel.Row(random, 3 + i))];
        long labels = rows.Sum(row => (long)row.LabelTokens);

        double apart = rows.Sum(row => session.Accumulate(Batch.Of([row], chunks), labels));
        float[] expected = session.Parameters.Gradients.Span(0, (int)session.Parameters.Gradients.Length).ToArray();
        session.Parameters.Gradients.Clear();
        IReadOnlyList<TrainingRow[]> packed = Packing.BestFitDecreasing(rows, 16);
        Assert.True(packed.Count < rows.Length && packed.Any(sequence => sequence.Length > 1));
        double together = session.Accumulate(Batch.Of(packed, chunks), labels);
        Assert.Equal(apart, together, 1e-5);
        Assert.True(GoldenFile.RelativeError(session.Parameters.Gradients.Span(0, expected.Length), expected) < 1e-5);
    }

    [Fact]
    public void A_tiny_model_learns_its_rows_by_heart()
    {
        using TemporaryFolder folder = new();
        TinyModel.WriteConfig(folder.Path, "qwen3", tied: true);
        Random random = new(11);
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(_ => TinyModel.Row(random, 8))];
        TrainingSummary summary = FullTraining.Train(folder.Path, rows,
            new TrainingOptions { BatchSize = 4, GradientAccumulationSteps = 1, NumberOfEpochs = 150, LearningRate = 1e-2, Threads = 1 },
            folder.File("model.safetensors"), TensorType.Float32);
        Assert.True(summary.Steps[0].Loss > 2.5);
        Assert.True(summary.Steps[^1].Loss < 0.1, $"loss {summary.Steps[^1].Loss}");
        Assert.Equal(summary.Steps.Count, summary.Steps[^1].TotalSteps);
        Checkpoint written = Checkpoint.Open(folder.Path);
        Assert.True(written.ParameterCount > 0);
    }
}
