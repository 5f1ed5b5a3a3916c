using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Dropout, packing, recomputed activations and validation in one run: each of them has to leave the others as they are alone.</summary>
public sealed class TogetherTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Checkpoint _base;
    private readonly TrainingRow[] _rows;
    private readonly TrainingRow[] _validation;

    public TogetherTests()
    {
        _base = TinyModel.WriteCheckpoint(_folder.File("base"));
        Random random = new(4);
        _rows = [.. Enumerable.Range(0, 9).Select(i => TinyModel.Row(random, 5 + i))];
        _validation = [.. Enumerable.Range(0, 3).Select(i => TinyModel.Row(random, 7 + (5 * i)))];
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Int8)]
    public void A_run_is_reproducible_to_the_bit(WeightPrecision precision)
    {
        (LoraAdapter adapter, TrainingSummary summary) = Train(0.3, recomputed: true, precision);
        (LoraAdapter again, TrainingSummary summaryAgain) = Train(0.3, recomputed: true, precision);
        Assert.Equal(adapter.ToSafetensors(), again.ToSafetensors());
        Assert.Equal(summary.Steps.Select(step => (step.Loss, step.ValidationLoss)), summaryAgain.Steps.Select(step => (step.Loss, step.ValidationLoss)));
    }

    [Fact]
    public void Recomputed_or_not_it_is_the_same_run()
    {
        (LoraAdapter adapter, TrainingSummary summary) = Train(0.3, recomputed: true);
        (LoraAdapter plain, TrainingSummary summaryPlain) = Train(0.3, recomputed: false);
        Assert.True(GoldenFile.RelativeError(Numbers(adapter), Numbers(plain)) < 1e-5);
        Assert.All(summary.Steps.Zip(summaryPlain.Steps), pair => Assert.Equal(pair.Second.Loss, pair.First.Loss, 1e-5));
        Assert.All(summary.Steps.Zip(summaryPlain.Steps), pair => Assert.Equal(pair.Second.ValidationLoss!.Value, pair.First.ValidationLoss!.Value, 1e-5));

        // The comparison sees the dropout, and rows are packed.
        (LoraAdapter without, _) = Train(0, recomputed: true);
        Assert.True(GoldenFile.RelativeError(Numbers(without), Numbers(plain)) > 1e-2);
        Assert.Equal(4, summary.Steps.Count);
    }

    [Fact]
    public void Validation_is_the_mean_of_the_tokens_of_single_rows_without_dropout()
    {
        (LoraAdapter adapter, TrainingSummary summary) = Train(0.3, recomputed: true);
        double loss = 0;
        int labels = 0;
        foreach (TrainingRow row in _validation)
        {
            Batch batch = Batch.Of([row]);
            loss += LogitsRun.Run(_base, adapter, batch).Loss;
            labels += batch.LabelIds.Length;
        }

        Assert.Equal(loss / labels, summary.Steps[^1].ValidationLoss!.Value, 1e-5);
    }

    private static float[] Numbers(LoraAdapter adapter) => [.. adapter.Factors.SelectMany(f => f.A.Concat(f.B))];

    private (LoraAdapter Adapter, TrainingSummary Summary) Train(double dropout, bool recomputed, WeightPrecision precision = WeightPrecision.Checkpoint)
    {
        LoraOptions lora = new() { Rank = 4, Alpha = 8, Dropout = dropout, TargetModules = "all-linear" };
        TrainingOptions options = new()
        {
            GradientAccumulationSteps = 2,
            LearningRate = 5e-3,
            NumberOfEpochs = 2,
            PackingLength = 32,
            ActivationCheckpointing = recomputed,
            EvaluationSteps = 1,
            Precision = precision,
            Threads = 1,
        };
        return LoraTraining.Train(_base, lora, _rows, options, _validation);
    }
}
