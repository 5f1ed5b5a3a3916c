using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Native calls that fail while a run is prepared or under way, tokens that come at any of them, threads that are handed on.</summary>
[Collection(Alone.Name)]
public sealed class TrainingLifetimeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Checkpoint _base;
    private readonly TrainingRow[] _rows;

    public TrainingLifetimeTests()
    {
        _base = TinyModel.WriteCheckpoint(_folder.File("base"));
        Random random = new(4);
        _rows = [.. Enumerable.Range(0, 4).Select(i => TinyModel.Row(random, 6 + i))];
    }

    private static LoraOptions Lora => new() { Rank = 4, Alpha = 8, Dropout = 0.1, TargetModules = (string[])["q_proj", "down_proj"] };

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(WeightPrecision.Checkpoint, false)]
    [InlineData(WeightPrecision.Int8, false)]
    [InlineData(WeightPrecision.Checkpoint, true)]
    public void Whichever_native_call_fails_nothing_is_left_and_the_error_is_typed(WeightPrecision precision, bool packed)
    {
        List<Exception> ends = Failing.AtEveryCall(_ => new InsufficientMemoryException("injected"), () => Train(Options(precision, packed)));
        Assert.True(ends.Count > 100, $"{ends.Count}");
        int first = ends.FindIndex(end => end is TrainingException);
        Assert.InRange(first, 30, ends.Count - 10);
        Assert.All(ends[..first], end => Assert.IsType<NativeMemoryException>(end));
        Assert.All(ends[first..], end =>
        {
            TrainingException error = Assert.IsType<TrainingException>(end);
            Assert.IsType<NativeMemoryException>(error.InnerException);
            Assert.NotNull(error.LastGoodAdapter);
        });
    }

    [Fact]
    public void A_token_that_comes_while_full_training_is_prepared_ends_the_preparation()
    {
        using CancellationTokenSource source = new();
        int sessions = 0;
        NativeCalls.Before = kind =>
        {
            if (kind == "session")
            {
                sessions++;
                source.Cancel();
            }
        };
        string output = _folder.File("full.safetensors");
        try
        {
            TrainingSummary summary = FullTraining.Train(
                _folder.File("base"), _rows, Options(WeightPrecision.Checkpoint), output, TensorType.Float32, cancellation: source.Token);
            Assert.True(summary.WasCancelled);
        }
        finally
        {
            NativeCalls.Before = null;
        }

        Assert.Equal(1, sessions); // and none after it
        Assert.False(File.Exists(output));
    }

    [Theory]
    [InlineData(WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Int8)]
    public void Whenever_the_token_comes_the_run_ends_with_the_steps_that_were_made(WeightPrecision precision)
    {
        (LoraAdapter Adapter, TrainingSummary Summary)[] whole = [.. Enumerable.Range(1, 2).Select(steps => Train(Options(precision, steps: steps)))];
        LoraAdapter fresh = LoraAdapter.Create(Lora, _base, Options(precision).SeedOrDefault);
        for (int at = 0; ; at += 3)
        {
            NativeCounts before = NativeCounts.Now;
            using CancellationTokenSource source = new();
            int calls = 0;
            NativeCalls.Before = _ =>
            {
                if (calls++ == at)
                {
                    source.Cancel();
                }
            };
            try
            {
                (LoraAdapter adapter, TrainingSummary summary) = Train(Options(precision), source.Token);
                if (calls <= at)
                {
                    Assert.False(summary.WasCancelled);
                    return;
                }

                // A token at the last calls, when the last step's optimizer is at work, comes too late.
                int steps = summary.Steps.Count;
                Assert.Equal(steps < 2, summary.WasCancelled);
                Assert.Equal((steps == 0 ? fresh : whole[steps - 1].Adapter).ToSafetensors(), adapter.ToSafetensors());
            }
            finally
            {
                NativeCalls.Before = null;
            }

            Assert.Equal(before, NativeCounts.Now);
        }
    }

    [Fact]
    public void Threads_are_handed_on()
    {
        int most = 0;
        int before = Count();
        TrainingOptions options = Options(WeightPrecision.Checkpoint);
        options.Threads = 41;
        LoraTraining.Train(_base, Lora, _rows, options, progress: _ => most = Count());
        Assert.InRange(most - before, 70, 100); // the sessions of training and optimizer, 40 beside the caller's each

        static int Count()
        {
            using System.Diagnostics.Process process = System.Diagnostics.Process.GetCurrentProcess();
            return process.Threads.Count;
        }
    }

    private static TrainingOptions Options(WeightPrecision precision, bool packed = false, int steps = 2) => new()
    {
        Precision = precision,
        PackingLength = packed ? 20 : 0,
        ActivationCheckpointing = packed,
        GradientAccumulationSteps = 2,
        MaximumSteps = steps,
        Schedule = LearningRateSchedule.Constant,
        EvaluationSteps = 1,
        Threads = 1,
    };

    private (LoraAdapter Adapter, TrainingSummary Summary) Train(TrainingOptions options, CancellationToken cancellation = default) =>
        LoraTraining.Train(_base, Lora, _rows, options, [_rows[1]], cancellation: cancellation);
}
