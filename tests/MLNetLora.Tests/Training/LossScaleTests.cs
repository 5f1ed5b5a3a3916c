using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Dynamic loss scaling, in float16 that is simulated.</summary>
public sealed class LossScaleTests : IDisposable
{
    private static readonly LoraOptions s_lora = new() { Rank = 2, Dropout = 0 };

    private readonly TemporaryFolder _folder = new();
    private readonly Checkpoint _base;

    public LossScaleTests() => _base = TinyModel.WriteCheckpoint(_folder.File("base"));

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void It_halves_when_a_step_is_skipped_and_doubles_after_2000_that_were_not()
    {
        LossScale scale = LossScale.For(ComputeType.Float16);
        Assert.Equal(65_536, scale.Factor);
        scale = scale.After(wasSkipped: true);
        Assert.Equal(32_768, scale.Factor);
        for (int i = 0; i < 1_999; i++)
        {
            scale = scale.After(wasSkipped: false);
        }

        Assert.Equal(32_768, scale.Factor);
        scale = scale.After(wasSkipped: false);
        Assert.Equal(65_536, scale.Factor);
        for (int i = 0; i < 1_999; i++)
        {
            scale = scale.After(wasSkipped: false);
        }

        Assert.Equal(32_768, scale.After(wasSkipped: true).Factor);
        Assert.Same(LossScale.None, LossScale.For(ComputeType.BFloat16).After(wasSkipped: false));
        Assert.False(LossScale.None.IsDynamic);
    }

    /// <summary>One label: the gradient of its score is the scale, which float16 does not hold at first.</summary>
    [Fact]
    public void A_step_that_overflows_is_skipped_and_the_others_are_those_of_float32()
    {
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(i => Row(i))];
        TrainingSummary half = Train(rows, ComputeType.Float16, steps: 5, out float[] adapter);
        int skipped = half.Steps.TakeWhile(step => step.WasSkipped).Count();
        Assert.InRange(skipped, 1, 3);
        Assert.DoesNotContain(half.Steps.Skip(skipped), step => step.WasSkipped);
        Assert.Equal(half.Steps.Select((_, i) => 65_536.0 / (1 << Math.Min(i, skipped))), half.Steps.Select(step => step.LossScale));
        Assert.All(half.Steps.Take(skipped), step => Assert.False(double.IsFinite(step.GradientNorm)));

        // The same rows in float32, those of the skipped steps left out, of a schedule over as many steps: the learning rate does not go on with a step that
        // was none.
        TrainingRow[] others = [.. Enumerable.Range(skipped, 5).Select(i => rows[i % rows.Length])];
        TrainingSummary full = Train(others, ComputeType.Float32, steps: 5, out _);
        foreach ((TrainingProgress a, TrainingProgress b) in half.Steps.Skip(skipped).Zip(full.Steps))
        {
            Assert.Equal(b.Loss, a.Loss, 1e-3 * b.Loss);
            Assert.Equal(b.GradientNorm, a.GradientNorm, 5e-3 * b.GradientNorm);
            Assert.Equal(b.LearningRate, a.LearningRate, 1e-12);
        }

        Assert.All(adapter, number => Assert.True(float.IsFinite(number)));
    }

    [Fact]
    public void Skipped_steps_without_end_are_an_error_that_names_the_type()
    {
        TrainingState state = TrainingState.Start(new LossScale(1 / 131_072f, 0)) with { Step = 40, Skipped = 33 };
        TrainingDivergedException error = Assert.Throws<TrainingDivergedException>(() => DivergenceCheck.RequireScale(state));
        Assert.Contains("beyond float16's 65,504", error.Message, StringComparison.Ordinal);
        DivergenceCheck.RequireScale(state with { Scale = new LossScale(1 / 65_536f, 0) });
        DivergenceCheck.RequireScale(TrainingState.Start(LossScale.None));
    }

    /// <summary>Numbers that float16 does not hold: no loss scale helps, and the error says what does.</summary>
    [Fact]
    public void A_model_that_overflows_is_not_blamed_on_the_learning_rate()
    {
        CheckpointTensor embedding = _base.Tensors["model.embed_tokens.weight"];
        using (FileStream file = File.OpenWrite(embedding.File.Source))
        {
            file.Position = embedding.Entry.Offset;
            file.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(Enumerable.Repeat(1e6f, (int)embedding.Entry.Count).ToArray()));
        }

        Checkpoint large = Checkpoint.Open(_base.Folder);
        TrainingOptions options = new() { Threads = 1, ComputeType = ComputeType.Float16, SimulatesComputeType = true, MaximumSteps = 2 };
        string message = Assert.Throws<TrainingDivergedException>(() => LoraTraining.Train(large, s_lora, [TinyModel.Row(new Random(1), 12)], options)).Message;
        Assert.Contains("beyond float16's 65,504. Set ComputeType to BFloat16 or Float32", message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_run_of_which_every_step_is_skipped_is_an_error_and_one_of_which_many_are_says_so()
    {
        TrainingRow[] rows = [Row(0)];
        Assert.Contains("Each of the 1 steps was skipped", Assert.Throws<TrainingDivergedException>(
            () => Train(rows, ComputeType.Float16, steps: 1, out _)).Message, StringComparison.Ordinal);
        TrainingSummary some = Train(rows, ComputeType.Float16, steps: 5, out _);
        Assert.Contains(some.Warnings, warning => warning.Contains("steps were skipped", StringComparison.Ordinal));
    }

    [Fact]
    public void Clipping_counts_without_the_scale()
    {
        TrainingRow[] rows = [TinyModel.Row(new Random(1), 12)];
        TrainingSummary half = Train(rows, ComputeType.Float16, steps: 200, out float[] _, clip: 0.01);
        TrainingSummary full = Train(rows, ComputeType.Float32, steps: 200, out float[] _, clip: 0.01);
        Assert.InRange(half.Steps.Count(step => step.WasSkipped), 0, 3);
        Assert.All(full.Steps, step => Assert.True(step.GradientNorm > 0.01));
        double moved = full.Steps[0].Loss - full.Steps[^1].Loss;
        Assert.True(moved > 0.05, $"{moved}");
        Assert.Equal(moved, half.Steps[0].Loss - half.Steps[^1].Loss, 0.02 * moved);
    }

    private static TrainingRow Row(int seed)
    {
        TrainingRow row = TinyModel.Row(new Random(seed), 8);
        return row with { Labels = [.. row.Labels.Select((label, i) => i == row.Labels.Length - 1 ? row.InputIds[i] : TrainingRow.Ignore)] };
    }

    private TrainingSummary Train(TrainingRow[] rows, ComputeType type, int steps, out float[] numbers, double clip = 1)
    {
        TrainingOptions options = new()
        {
            Threads = 1,
            ComputeType = type,
            SimulatesComputeType = type != ComputeType.Float32,
            BatchSize = 1,
            GradientAccumulationSteps = 1,
            MaximumSteps = steps,
            Shuffle = false,
            MaximumGradientNorm = clip,
            LearningRate = clip < 1 ? 0.1 : 2e-4,
            Optimizer = clip < 1 ? OptimizerKind.Sgd : OptimizerKind.AdamW,
        };
        (LoraAdapter adapter, TrainingSummary summary) = LoraTraining.Train(_base, s_lora, rows, options);
        numbers = [.. adapter.Tensors.SelectMany(tensor => tensor.Values)];
        return summary;
    }
}
