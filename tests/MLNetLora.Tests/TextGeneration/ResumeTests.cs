using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Runs that are stopped and gone on with: the result is that of a run that was not, to the last bit.</summary>
public sealed class ResumeTests : RunTests
{
    public static TheoryData<string> Kinds => [.. s_kinds.Keys];

    private static readonly Dictionary<string, Action<QwenLoraTrainer.Options>> s_kinds = new()
    {
        ["plain"] = _ => { },
        ["Int8"] = options => options.Precision = WeightPrecision.Int8,
        ["Nf4"] = options => options.Precision = WeightPrecision.Nf4,
        ["prepacked"] = options => options.PrepackWeights = true,
        ["8-bit optimizer"] = options => (options.Optimizer, options.EightBitFrom) = (OptimizerKind.AdamW8Bit, 16),
        ["Lion"] = options => (options.Optimizer, options.LearningRate) = (OptimizerKind.Lion, 1e-3),
        ["Sgd"] = options => options.Optimizer = OptimizerKind.Sgd,
        ["LoRA+"] = options => options.LoraPlusRatio = 16,
        ["PiSSA"] = options => options.Initialization = LoraInitialization.Pissa,
        ["DoRA, biases and norms"] = options => (options.UseDora, options.Bias, options.ModulesToSave) = (true, LoraBias.LoraOnly, ["norm"]),
        ["grouped"] = options => options.GroupByLength = true,
        ["packed"] = options => options.PackingLength = 40,
        ["two threads"] = options => options.Threads = 2,
        ["every weight"] = Full,
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void What_was_stopped_after_any_step_ends_as_what_was_not(string kind)
    {
        byte[] expected = Result("whole", Run("whole", s_kinds[kind]));
        for (int stopped = 1; stopped < Steps; stopped += 2)
        {
            string name = $"stopped-{stopped}";
            Run(name, s_kinds[kind], stopAfter: stopped);
            Assert.Equal($"checkpoint-{stopped}", Path.GetFileName(RunFolder.Checkpoints(Bench.PathOf(name)).First().Folder));
            TrainingSummary summary = Run(name, s_kinds[kind], resume: true);
            Assert.Equal(stopped + 1, summary.FirstStep);
            Assert.Equal(Enumerable.Range(1, Steps), summary.Steps.Select(step => step.Step));
            Assert.True(expected.AsSpan().SequenceEqual(Result(name, summary)), $"{kind}, stopped after {stopped}");
        }
    }

    [Fact]
    public void The_steps_before_are_those_of_the_run_that_made_them()
    {
        TrainingSummary whole = Run("whole", Validated);
        Run("stopped", Validated, stopAfter: 3);
        TrainingSummary resumed = Run("stopped", Validated, resume: true);

        Assert.Equal(whole.Steps.Select(Numbers), resumed.Steps.Select(Numbers));
        Assert.Equal(resumed.Steps.Select(step => step.Elapsed).Order(), resumed.Steps.Select(step => step.Elapsed));
        Assert.Equal(whole.BestStep, resumed.BestStep);

        static object Numbers(TrainingProgress step) => step with
        {
            Elapsed = default,
            Remaining = default,
            TokensPerSecond = 0,
        };
    }

    [Fact]
    public void A_finished_run_is_not_trained_again()
    {
        Run("run");
        TrainingSummary again = Run("run", resume: true);
        Assert.Equal((Steps + 1, Steps, false), (again.FirstStep, again.Steps.Count, again.StoppedEarly));
    }

    [Fact]
    public void Without_a_checkpoint_yet_the_run_begins_anew()
    {
        TrainingSummary summary = Run("new", resume: true);
        Assert.Equal(1, summary.FirstStep);
        Assert.Equal(Result("new", summary), Result("other", Run("other")));
        Refused<OptionException>("holds no checkpoint-… of a run", options => options.ResumeFrom = Bench.PathOf("nowhere"));
    }

    [Fact]
    public void A_seed_that_was_drawn_is_kept()
    {
        MLContext context = new(); // has none
        Run("run", stopAfter: 2, context: context);
        string seed = Seed(2);
        Run("run", resume: true, context: new MLContext());
        Assert.Equal(seed, Seed(Steps));

        string Seed(int step) => State("run", step).GetProperty("identity").GetProperty("options").GetProperty("Seed").GetString()!;
    }

    [Fact]
    public void The_same_base_in_another_place_is_the_same()
    {
        Run("run", stopAfter: 3);
        string copy = TinyCheckpoint.Write(Bench.PathOf("copy"));
        Assert.Equal(4, Run("run", options => options.ModelPath = copy, resume: true).FirstStep);
    }

    [Fact]
    public void An_evaluation_that_was_not_made_is_made_when_the_run_goes_on()
    {
        // As one that was stopped in the middle: the step is made, and nothing is known of its validation rows.
        TrainingSummary whole = Run("whole", Validated);
        Run("stopped", stopAfter: 2, change: options => options.ValidationSet = Rows(("where", "there")));
        TrainingSummary resumed = Run("stopped", Validated, resume: true);
        Assert.Equal(whole.Steps.Select(step => step.ValidationLoss), resumed.Steps.Select(step => step.ValidationLoss));
    }

    [Fact]
    public void Going_back_leaves_the_other_way_behind()
    {
        Run("run");
        Run("run", options => (options.ResumeFrom, options.ResumeWithChanges, options.LearningRate) = (Bench.PathOf("run/checkpoint-2"), true, 0.02),
            stopAfter: 3);
        Assert.Equal([3, 2, 1], Kept("run"));
        Assert.Equal(4, Run("run", options => options.LearningRate = 0.02, resume: true).FirstStep);
        Assert.Contains("at least 6, which the run has made", Assert.ThrowsAny<Exception>(() =>
            Run("run", options => (options.LearningRate, options.MaximumSteps, options.ResumeWithChanges) = (0.02, 3, true), resume: true)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_full_training_that_is_stopped_twice_has_the_weights_of_the_second_time()
    {
        Run("full", Full, stopAfter: 2);
        Run("full", Full, stopAfter: 4, resume: true);
        Assert.Equal(File.ReadAllBytes(Bench.PathOf("full/checkpoint-4/model.safetensors")), File.ReadAllBytes(Bench.PathOf("full/model.safetensors")));
        Assert.False(File.Exists(Bench.PathOf("full/model.interrupted.safetensors")));
    }

    [Fact]
    public void A_run_that_fails_goes_on_from_its_last_whole_step()
    {
        byte[] expected = Result("whole", Run("whole"));
        Assert.Throws<TrainingException>(() => Run("run", options =>
        {
            options.SaveSteps = 100;
            options.ProgressCallback = step => _ = step.Step == 4 ? throw new InvalidOperationException("no") : 0;
        }));
        Assert.Equal([4], Kept("run"));
        Assert.Equal(expected, Result("run", Run("run", resume: true)));
    }

    [Fact]
    public void What_is_cancelled_before_it_goes_on_names_the_checkpoint_that_holds()
    {
        byte[] expected = Result("whole", Run("whole"));
        Run("run", stopAfter: 2);
        using CancellationTokenSource source = new();
        string message = Assert.Throws<OperationCanceledException>(() => Run("run", options =>
            (options.CancellationToken, options.Callbacks) = (source.Token, [new Cancelling(source)]), resume: true)).Message;
        Assert.Contains($"before it made another step. {Bench.PathOf("run/checkpoint-2")} is as it was", message, StringComparison.Ordinal);
        Assert.Equal(expected, Result("run", Run("run", resume: true)));
    }

    [Fact]
    public void A_full_training_that_ends_before_another_step_leaves_nothing_where_it_would_have_gone_on()
    {
        Run("run", Full, stopAfter: 2);
        using CancellationTokenSource source = new();
        string cancelled = Ended<OperationCanceledException>(source.Cancel, source.Token);
        Assert.Contains($"before it made another step. {Bench.PathOf("run/checkpoint-2")} is as it was", cancelled, StringComparison.Ordinal);
        string failed = Ended<TrainingException>(() => throw new IOException("gone"), CancellationToken.None);
        Assert.Contains($"The weights of the last whole step are in {Bench.PathOf("run/checkpoint-2")}", failed, StringComparison.Ordinal);
        Assert.Equal(3, Run("other", From).FirstStep);

        void From(QwenLoraTrainer.Options options)
        {
            Full(options);
            options.ResumeFrom = Bench.PathOf("run");
        }

        string Ended<T>(Action end, CancellationToken token)
            where T : Exception
        {
            NativeCalls.Before = kind =>
            {
                if (kind == "run")
                {
                    end();
                }
            };
            try
            {
                string message = Assert.Throws<T>(() => Run("other", options =>
                {
                    From(options);
                    options.CancellationToken = token;
                })).Message;
                Assert.False(Directory.Exists(Bench.PathOf("other")));
                return message;
            }
            finally
            {
                NativeCalls.Before = null;
            }
        }
    }

    [Fact]
    public void A_base_file_that_is_replaced_ends_the_run_which_goes_on_with_the_one_that_it_began_with()
    {
        byte[] expected = Result("whole", Run("whole"));
        string file = Path.Combine(Bench.BaseFolder, "model.safetensors");
        byte[] before = File.ReadAllBytes(file);
        TinyCheckpoint.Write(Bench.PathOf("new"), seed: 2);
        TrainingException error = Assert.Throws<TrainingException>(() => Run("run", options => options.ProgressCallback = step =>
        {
            if (step.Step == 2)
            {
                File.Move(Bench.PathOf("new/model.safetensors"), file, overwrite: true);
            }
        }));
        Assert.Equal(2, error.LastGoodStep);
        Assert.Contains($"{file} was changed since the checkpoint was opened", error.Message, StringComparison.Ordinal);
        Assert.Contains("the base's model.safetensors is ", Assert.Throws<OptionException>(() => Run("run", resume: true)).Message, StringComparison.Ordinal);
        File.WriteAllBytes(file, before);
        Assert.Equal(expected, Result("run", Run("run", resume: true)));
    }

    private sealed class Cancelling(CancellationTokenSource source) : TrainingCallback
    {
        public override void OnTrainBegin(TrainingStart start) => source.Cancel();
    }
}
