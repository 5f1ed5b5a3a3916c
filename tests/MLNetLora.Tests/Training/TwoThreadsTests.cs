using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Two threads share the products of a layer; what they compute does not depend on who was faster.</summary>
public sealed class TwoThreadsTests
{
    private readonly Checkpoint _nano = Checkpoint.Open(Repository.Nano);

    [Theory]
    [InlineData(WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Int8)]
    public void Training_is_reproducible_to_the_bit(WeightPrecision precision)
    {
        byte[] first = Train(precision);
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(first, Train(precision));
        }
    }

    [Theory]
    [InlineData(WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Int8)]
    [InlineData(WeightPrecision.Int4)]
    public void Scores_are_reproducible_to_the_bit(WeightPrecision precision)
    {
        using CausalLanguageModel lm = new(_nano, threads: 2, precision: precision);
        int[] prompt = Row(new Random(2), 150).InputIds;
        float[] first = lm.Logits(prompt);
        for (int i = 0; i < 5; i++)
        {
            Assert.Equal(first, lm.Logits(prompt));
        }
    }

    private byte[] Train(WeightPrecision precision)
    {
        Random random = new(1);
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(i => Row(random, 60 + (30 * i)))];
        TrainingOptions options = new() { Precision = precision, Threads = 2, BatchSize = 2, GradientAccumulationSteps = 1, MaximumSteps = 2 };
        return LoraTraining.Train(_nano, new LoraOptions { Rank = 8, TargetModules = "all-linear" }, rows, options).Adapter.ToSafetensors();
    }

    private TrainingRow Row(Random random, int length)
    {
        int[] ids = [.. Enumerable.Range(0, length).Select(_ => random.Next(_nano.Config.VocabSize))];
        return new TrainingRow(ids, ids);
    }
}
