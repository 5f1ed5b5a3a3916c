using System.Numerics;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>What each option of a run does, on a model of a few thousand numbers.</summary>
public sealed class LoraTrainingTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Checkpoint _base;
    private readonly TrainingRow[] _rows;

    public LoraTrainingTests()
    {
        _base = TinyModel.WriteCheckpoint(_folder.File("base"));
        Random random = new(4);
        _rows = [.. Enumerable.Range(0, 6).Select(i => TinyModel.Row(random, 6 + i))];
    }

    private static LoraOptions Lora => new() { Rank = 4, Alpha = 8, Dropout = 0, TargetModules = "all-linear" };

    private static TrainingOptions Options => new() { BatchSize = 1, GradientAccumulationSteps = 2, LearningRate = 5e-3, NumberOfEpochs = 2, Threads = 1 };

    [Fact]
    public void The_same_seed_gives_the_same_adapter_and_another_seed_another()
    {
        LoraOptions dropout = Lora.With(o => o.Dropout = 0.3);
        float[] first = Numbers(Train(lora: dropout).Adapter);
        Assert.Equal(first, Numbers(Train(lora: dropout).Adapter));
        Assert.NotEqual(first, Numbers(Train(Change(o => o.Seed = 43), dropout).Adapter));
    }

    [Fact]
    public void The_loss_falls() =>
        Assert.True(Train(Change(o => o.NumberOfEpochs = 20)).Summary.Steps is [var first, .., var last] && last.Loss < first.Loss - 0.5);

    [Fact]
    public void Dropout_acts_in_training_and_not_in_evaluation()
    {
        TrainingRow[] validation = [_rows[0]];
        TrainingOptions still = Change(o => (o.LearningRate, o.NumberOfEpochs) = (1e-12, 1));
        LoraAdapter start = Trained();
        (LoraAdapter _, TrainingSummary without) = LoraTraining.Train(_base, Lora, _rows, still, validation, initial: start);
        (LoraAdapter _, TrainingSummary with) = LoraTraining.Train(_base, Lora.With(o => o.Dropout = 0.5), _rows, still, validation, initial: start);
        Assert.NotEqual(without.Steps[0].Loss, with.Steps[0].Loss, 1e-4);
        Assert.Equal(without.Steps[^1].ValidationLoss!.Value, with.Steps[^1].ValidationLoss!.Value, 1e-5);
    }

    [Fact]
    public void Masks_keep_their_share_and_differ_by_layer_micro_batch_and_seed()
    {
        LoraModule[] modules = [.. LoraAdapter.Create(Lora, _base, 1).Factors.Select(f => f.Module)];
        DropoutMasks masks = new(modules, 0.05, seed: 1);
        byte[] mask = masks.Draw(0, 0, 20_000).ToArray();
        Assert.Equal(20_000 * modules[0].Module.In / 8, mask.Length);
        Assert.Equal(0.95, mask.Sum(bits => BitOperations.PopCount(bits)) / (8.0 * mask.Length), 0.002);
        Assert.Equal(mask, new DropoutMasks(modules, 0.05, seed: 1).Draw(0, 0, 20_000).ToArray());
        Assert.NotEqual(mask, masks.Draw(1, 0, 20_000).ToArray());
        Assert.NotEqual(mask, masks.Draw(0, 1, 20_000).ToArray());
        Assert.NotEqual(mask, new DropoutMasks(modules, 0.05, seed: 2).Draw(0, 0, 20_000).ToArray());
        Assert.Equal(mask[..20], masks.Draw(0, 0, 10).ToArray());
        // less than a number can resolve
        Assert.All(new DropoutMasks(modules, 1e-9, seed: 1).Draw(0, 0, 100).ToArray(), bits => Assert.Equal(byte.MaxValue, bits));
        Assert.All(new DropoutMasks(modules, 1 - 1e-9, seed: 1).Draw(0, 0, 100).ToArray(), bits => Assert.Equal(0, bits));
    }

    [Fact]
    public void Rows_of_a_mask_begin_at_whole_bytes()
    {
        const int Tokens = 50;
        LoraModule even = new(new LinearModule("even", 24, 8), 4, 1, 1), odd = new(new LinearModule("odd", 12, 8), 4, 1, 1);
        byte[] whole = new DropoutMasks([even], 0.3, seed: 5).Draw(0, 3, Tokens / 2).ToArray(); // as many numbers in all
        DropoutMasks masks = new([odd], 0.3, seed: 5);
        masks.Draw(0, 0, Tokens + 10); // memory with other bits in it

        byte[] padded = masks.Draw(0, 3, Tokens).ToArray();

        Assert.Equal(Tokens * 2, padded.Length);
        for (int i = 0; i < Tokens * 12; i++)
        {
            Assert.Equal((whole[i / 8] >> (i % 8)) & 1, (padded[(i / 12 * 2) + (i % 12 / 8)] >> (i % 12 % 8)) & 1);
        }
    }

    [Fact]
    public void Recomputing_activations_changes_nothing_even_with_dropout()
    {
        float[] plain = Numbers(Train(lora: Lora.With(o => o.Dropout = 0.3)).Adapter);
        float[] recomputed = Numbers(Train(Change(o => o.ActivationCheckpointing = true), Lora.With(o => o.Dropout = 0.3)).Adapter);
        Assert.True(GoldenFile.RelativeError(recomputed, plain) < 1e-5);
    }

    [Fact]
    public void A_window_is_the_same_step_however_it_is_cut_into_batches()
    {
        float[] ones = Numbers(Train(Change(o => (o.BatchSize, o.GradientAccumulationSteps, o.Shuffle) = (1, 3, false))).Adapter);
        float[] threes = Numbers(Train(Change(o => (o.BatchSize, o.GradientAccumulationSteps, o.Shuffle) = (3, 1, false))).Adapter);
        float[] packed = Numbers(Train(Change(o => (o.BatchSize, o.GradientAccumulationSteps, o.Shuffle) = (6, 1, false))).Adapter);
        Assert.True(GoldenFile.RelativeError(threes, ones) < 1e-4);
        Assert.True(GoldenFile.RelativeError(packed, ones) > 1e-2); // six rows to a step: another run
    }

    [Fact]
    public void Packing_makes_fewer_sequences_of_the_same_rows()
    {
        TrainingSummary apart = Train(Change(o => o.GradientAccumulationSteps = 1)).Summary;
        TrainingSummary packed = Train(Change(o => (o.GradientAccumulationSteps, o.PackingLength) = (1, 32))).Summary;
        Assert.Equal(12, apart.Steps.Count);
        Assert.Equal(4, packed.Steps.Count);
        Assert.Equal(apart.Steps.Sum(step => step.LabelTokens), packed.Steps.Sum(step => step.LabelTokens));
    }

    [Fact]
    public void The_short_last_window_makes_a_step()
    {
        TrainingSummary summary = Train(Change(o => o.GradientAccumulationSteps = 4)).Summary;
        Assert.Equal([4 / 6.0, 1.0, 1 + (4 / 6.0), 2.0], summary.Steps.Select(step => step.Epoch));
    }

    [Fact]
    public void Shuffling_changes_the_order_of_every_epoch()
    {
        long[] Labels(bool shuffle) =>
            [.. Train(Change(o => (o.Shuffle, o.GradientAccumulationSteps) = (shuffle, 1))).Summary.Steps.Select(step => step.LabelTokens)];
        long[] still = Labels(false);
        Assert.Equal(still[..6], still[6..]);
        long[] shuffled = Labels(true);
        Assert.NotEqual(shuffled[..6], shuffled[6..]);
        Assert.Equal(still[..6].Order(), shuffled[..6].Order());
    }

    [Theory]
    [InlineData(LearningRateSchedule.Linear, 2, new[] { 0, 0.5, 1, 0.75, 0.5, 0.25 })]
    [InlineData(LearningRateSchedule.Constant, 0, new[] { 1.0, 1, 1, 1, 1, 1 })]
    [InlineData(LearningRateSchedule.Cosine, 0, new[] { 1, 0.9330127018922194, 0.75, 0.5, 0.25, 0.0669872981077807 })]
    public void Schedules(LearningRateSchedule schedule, int warmup, double[] expected)
    {
        TrainingSummary summary = Train(Change(o => (o.Schedule, o.WarmupSteps) = (schedule, warmup))).Summary;
        Assert.Equal(expected.Length, summary.Steps.Count);
        Assert.All(expected.Zip(summary.Steps), pair => Assert.Equal(pair.First * 5e-3, pair.Second.LearningRate, 1e-12));
    }

    [Fact]
    public void Grouping_by_length_puts_like_lengths_together_and_loses_no_row()
    {
        Random random = new(9);
        TrainingRow[] rows = [.. Enumerable.Range(0, 39).Select(i => TinyModel.Row(random, 4 + (i * 7 % 40)))];
        long Padding(bool grouped)
        {
            TrainingOptions options = Change(o => (o.BatchSize, o.GradientAccumulationSteps, o.NumberOfEpochs, o.GroupByLength) = (4, 1, 2, grouped));
            List<TrainingRow[]> ordered = [.. RowOrder.Of([.. rows.Select(row => new[] { row })], options, epoch: 1)];
            Assert.Equal(rows.OrderBy(row => row.GetHashCode()), ordered.Select(sequence => sequence[0]).OrderBy(row => row.GetHashCode()));
            return ordered.Select(sequence => sequence[0].InputIds.Length).Chunk(4).Sum(batch => (batch.Max() * (long)batch.Length) - batch.Sum());
        }

        Assert.True(Padding(grouped: true) * 4 < Padding(grouped: false));
        Assert.Contains("GroupByLength", Assert.Throws<OptionException>(() => Train(Change(o => (o.GroupByLength, o.Shuffle) = (true, false)))).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_gradient_that_vanishes_by_overflow_is_a_divergence()
    {
        TrainingDivergedException error = Assert.Throws<TrainingDivergedException>(() =>
            Train(Change(o => (o.LearningRate, o.NumberOfEpochs, o.MaximumGradientNorm) = (1e18, 20, 0)),
            Lora.With(o => o.TargetModules = ["q_proj", "v_proj"])));
        Assert.True(error.Step > 1);
        Assert.NotNull(error.LastGoodAdapter);
    }

    [Fact]
    public void Warm_up_can_be_a_share_of_the_steps() =>
        Assert.Equal([0, 0.5, 1], Train(Change(o => o.WarmupRatio = 0.2)).Summary.Steps.Take(3).Select(step => Math.Round(step.LearningRate / 5e-3, 9)));

    [Fact]
    public void A_maximum_of_steps_ends_the_run_and_the_schedule()
    {
        TrainingSummary summary = Train(Change(o => o.MaximumSteps = 8)).Summary;
        Assert.Equal(8, summary.Steps.Count);
        Assert.Equal(5e-3 / 8, summary.Steps[^1].LearningRate, 1e-12);
    }

    [Fact]
    public void Validation_is_evaluated_after_each_epoch_or_every_so_many_steps()
    {
        static int[] At(TrainingSummary summary) => [.. summary.Steps.Where(step => step.ValidationLoss is not null).Select(step => step.Step)];
        TrainingRow[] validation = [_rows[1], _rows[2]];
        Assert.Equal([3, 6], At(Train(validation: validation).Summary));
        Assert.Equal([2, 4, 6], At(Train(Change(o => o.EvaluationSteps = 2), validation: validation).Summary));
        Assert.Empty(At(Train().Summary));
    }

    [Fact]
    public void A_cancelled_run_returns_the_adapter_of_the_last_whole_step()
    {
        TrainingOptions constant = Change(o => o.Schedule = LearningRateSchedule.Constant);
        using CancellationTokenSource cancellation = new();
        (LoraAdapter adapter, TrainingSummary summary) = LoraTraining.Train(_base, Lora, _rows, constant, cancellation: cancellation.Token, progress: step =>
        {
            if (step.Step == 2)
            {
                cancellation.Cancel();
            }
        });
        Assert.True(summary.WasCancelled);
        Assert.Equal(2, summary.Steps.Count);

        // With a constant rate a run of two steps is the beginning of a longer one.
        Assert.Equal(Numbers(Train(Change(o => (o.Schedule, o.MaximumSteps) = (LearningRateSchedule.Constant, 2))).Adapter), Numbers(adapter));
        (LoraAdapter afterNone, TrainingSummary none) = LoraTraining.Train(_base, Lora, _rows, constant, cancellation: new CancellationToken(canceled: true));
        Assert.Empty(none.Steps);
        Assert.Equal(Numbers(LoraAdapter.Create(Lora, _base, Options.SeedOrDefault)), Numbers(afterNone));
    }

    [Fact]
    public void A_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_adapter()
    {
        List<int> made = [];
        void Wild(TrainingOptions o) => (o.LearningRate, o.NumberOfEpochs, o.MaximumGradientNorm, o.Schedule) = (1e18, 50, 0, LearningRateSchedule.Constant);
        TrainingDivergedException error = Assert.Throws<TrainingDivergedException>(
            () => LoraTraining.Train(_base, Lora, _rows, Change(Wild), progress: step => made.Add(step.Step)));
        Assert.Equal(made.Count + 1, error.Step);
        Assert.Contains($"step {error.Step}", error.Message, StringComparison.Ordinal);
        Assert.Contains("LearningRate", error.Message, StringComparison.Ordinal);
        Assert.True(error.Step > 1);
        (LoraAdapter good, _) = Train(Change(o =>
        {
            Wild(o);
            o.MaximumSteps = error.Step - 1;
        }));
        Assert.Equal(Numbers(good), Numbers(error.LastGoodAdapter!));
        Assert.All(Numbers(good), value => Assert.True(float.IsFinite(value)));
    }

    [Fact]
    public void An_adapter_for_another_base_is_refused()
    {
        Checkpoint other = TinyModel.WriteCheckpoint(_folder.File("other"), "qwen2");
        LoraAdapter wide = new(Lora, "", [.. Trained().Factors.Select(f => f with { Module = f.Module with { Module = f.Module.Module with { In = 99 } } })]);
        Assert.Contains("made for another base", Assert.Throws<AdapterException>(() => LoraTraining.Train(other, Lora, _rows, Options, initial: wide)).Message,
            StringComparison.Ordinal);
        Assert.Contains("made for another base", Assert.Throws<AdapterException>(() => Merge.Save(other, wide, _folder.File("merged"))).Message,
            StringComparison.Ordinal);
        Assert.Contains("made for another base", Assert.Throws<AdapterException>(() => new MLNetLora.Inference.CausalLanguageModel(other, wide)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Batches_too_large_for_an_array_are_refused_before_the_first_step() =>
        Assert.Contains("are too large", Assert.Throws<OptionException>(() => Train(Change(o => o.PackingLength = 200_000_000))).Message,
            StringComparison.Ordinal);

    [Fact]
    public void Rows_that_cannot_be_learned_are_named()
    {
        Assert.Contains("There are no training rows", Refused([]), StringComparison.Ordinal);
        Assert.Contains("None of the 1 training rows has a label", Refused([new([1, 2], [-100, -100])]), StringComparison.Ordinal);
        Assert.Contains("Row 2 of the training rows has 2 ids but 1 labels", Refused([_rows[0], new([1, 2], [1])]), StringComparison.Ordinal);
        Assert.Contains("Row 2 of the training rows has the token id 24", Refused([_rows[0], new([1, 24], [1, 24])]), StringComparison.Ordinal);
    }

    [Fact]
    public void Options_that_make_no_sense_are_named()
    {
        foreach ((string name, Action<TrainingOptions> change) in new (string, Action<TrainingOptions>)[]
        {
            ("BatchSize", o => o.BatchSize = 0), ("GradientAccumulationSteps", o => o.GradientAccumulationSteps = 0), ("LearningRate", o => o.LearningRate = 0),
            ("NumberOfEpochs", o => o.NumberOfEpochs = 0), ("MaximumSteps", o => o.MaximumSteps = 0), ("Schedule", o => o.Schedule = (LearningRateSchedule)9),
            ("WarmupSteps", o => o.WarmupSteps = -1), ("WarmupRatio", o => o.WarmupRatio = 2), ("WeightDecay", o => o.WeightDecay = -1),
            ("AdamBeta1", o => o.AdamBeta1 = 1),
            ("AdamBeta2", o => o.AdamBeta2 = 1), ("AdamEpsilon", o => o.AdamEpsilon = 0), ("MaximumGradientNorm", o => o.MaximumGradientNorm = -1),
            ("PackingLength", o => o.PackingLength = -1), ("Threads", o => o.Threads = -1), ("Precision", o => o.Precision = (WeightPrecision)9),
            ("Precision", o => o.Precision = WeightPrecision.Int4),
            ("EvaluationSteps", o => o.EvaluationSteps = -1),
            ("AdamBeta1", o => (o.Optimizer, o.AdamBeta1) = (OptimizerKind.Lion, 0.8)),
            ("AdamBeta2", o => (o.Optimizer, o.AdamBeta2) = (OptimizerKind.Sgd, 0.9)),
            ("AdamEpsilon", o => (o.Optimizer, o.AdamEpsilon) = (OptimizerKind.Sgd, 1e-6)), ("LionBeta1", o => o.LionBeta1 = 0.8),
            ("LionBeta2", o => (o.Optimizer, o.LionBeta2) = (OptimizerKind.AdamW8Bit, 0.9)),
        })
        {
            Assert.StartsWith(name + " is ", Assert.Throws<OptionException>(() => Train(Change(change))).Message, StringComparison.Ordinal);
        }

        Assert.StartsWith("Rank is 0", Assert.Throws<OptionException>(() => Train(lora: Lora.With(o => o.Rank = 0))).Message, StringComparison.Ordinal);
        Assert.StartsWith("Dropout is 1", Assert.Throws<OptionException>(() => Train(lora: Lora.With(o => o.Dropout = 1))).Message, StringComparison.Ordinal);
    }

    public void Dispose() => _folder.Dispose();

    private (LoraAdapter Adapter, TrainingSummary Summary) Train(TrainingOptions? options = null, LoraOptions? lora = null, TrainingRow[]? validation = null) =>
        LoraTraining.Train(_base, lora ?? Lora, _rows, options ?? Options, validation);

    private LoraAdapter Trained() => Train().Adapter;

    private static TrainingOptions Change(Action<TrainingOptions> change)
    {
        TrainingOptions options = Options;
        change(options);
        return options;
    }

    private string Refused(TrainingRow[] rows) => Assert.Throws<DatasetException>(() => LoraTraining.Train(_base, Lora, rows, Options)).Message;

    private static float[] Numbers(LoraAdapter adapter) => [.. adapter.Factors.SelectMany(f => f.A.Concat(f.B))];
}
