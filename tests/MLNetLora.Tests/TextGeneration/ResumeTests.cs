using System.Text.Json;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Runs that are stopped and gone on with: the result is that of a run that was not, to the last bit, and what differs is named.</summary>
public sealed class ResumeTests : IDisposable
{
    private const int Steps = 6;

    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    private static void Short(QwenLoraTrainer.Options options)
    {
        (options.Rank, options.Dropout, options.LearningRate, options.Threads) = (4, 0.1, 1e-2, 1);
        (options.BatchSize, options.GradientAccumulationSteps, options.MaximumSteps, options.SaveSteps) = (1, 2, Steps, 1);
    }

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
        ["every weight"] = options =>
        {
            QwenLoraTrainer.Options fresh = new();
            (options.Method, options.Rank, options.Dropout) = (FineTuningMethod.Full, fresh.Rank, fresh.Dropout);
        },
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
            Assert.Equal($"checkpoint-{stopped}", Path.GetFileName(RunFolder.Checkpoints(_bench.PathOf(name)).First().Folder));
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
        Refused<OptionException>("holds no checkpoint-… of a run", options => options.ResumeFrom = _bench.PathOf("nowhere"));
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
    public void Checkpoints_have_transformers_names()
    {
        TrainingSummary summary = Run("run", options =>
        {
            Validated(options);
            options.SystemPrompt = "Be brief.";
        });
        string folder = _bench.PathOf("run/checkpoint-4");
        Assert.Equal(["adapter_config.json", "adapter_model.safetensors", "mlnetlora_prompt.json", "mlnetlora_state.json", "trainer_state.json",
            "training_state.safetensors"], Directory.EnumerateFiles(folder).Select(Path.GetFileName).Order());
        LoraAdapter adapter = LoraAdapter.LoadPeft(folder, Checkpoint.Open(_bench.BaseFolder));
        Assert.Equal(4, adapter.Options.Rank);

        JsonElement state = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "trainer_state.json"))).RootElement;
        Assert.Equal(["best_global_step", "best_metric", "best_model_checkpoint", "epoch", "eval_steps", "global_step", "is_hyper_param_search",
            "is_local_process_zero", "is_world_process_zero", "log_history", "logging_steps", "max_steps", "num_input_tokens_seen", "num_train_epochs",
            "save_steps", "stateful_callbacks", "total_flos", "train_batch_size", "trial_name", "trial_params"],
            state.EnumerateObject().Select(item => item.Name));
        Assert.Equal((4, Steps), (state.GetProperty("global_step").GetInt32(), state.GetProperty("max_steps").GetInt32()));
        Assert.Equal(4, state.GetProperty("log_history").EnumerateArray().Count(entry => entry.TryGetProperty("loss", out _)));
        Assert.Equal(2, state.GetProperty("log_history").EnumerateArray().Count(entry => entry.TryGetProperty("eval_loss", out _)));
        Assert.Equal(
            summary.Steps.Take(4).Select(step => (step.ValidationLoss, step.ValidationTokenAccuracy)),
            TrainerStateFile.Read(Path.Combine(folder, "trainer_state.json")).Select(step => (step.ValidationLoss, step.ValidationTokenAccuracy)));
        string best = state.GetProperty("best_model_checkpoint").GetString()!;
        Assert.Equal(_bench.PathOf($"run/checkpoint-{state.GetProperty("best_global_step").GetInt32()}"), best);
        Assert.True(File.Exists(_bench.PathOf("run/adapter_config.json")) && File.Exists(_bench.PathOf("run/trainer_state.json")));
    }

    [Fact]
    public void As_many_checkpoints_are_kept_as_asked_for_and_the_best()
    {
        Run("each", options => options.SaveSteps = 2);
        Assert.Equal([6, 4, 2], Kept("each"));
        Run("two", options => (options.SaveSteps, options.SaveTotalLimit) = (1, 2));
        Assert.Equal([6, 5], Kept("two"));
        Run("epochs", options => options.SaveSteps = null); // of two steps each
        Assert.Equal([6, 4, 2], Kept("epochs"));
        Run("never", options => options.SaveSteps = 0);
        Assert.Empty(Kept("never"));

        // The validation rows are others than the training rows, and the rate is high: the first evaluation is the best.
        TrainingSummary summary = Run("best", options =>
        {
            Validated(options);
            (options.LearningRate, options.SaveTotalLimit) = (0.3, 1);
        });
        Assert.True(summary.BestStep < Steps, $"{summary.BestStep}");
        Assert.Equal([Steps, summary.BestStep!.Value], Kept("best"));
    }

    [Fact]
    public void The_best_step_is_what_comes_out_where_that_is_asked_for()
    {
        void Wild(QwenLoraTrainer.Options options)
        {
            Validated(options);
            (options.LearningRate, options.LoadBestModelAtEnd, options.SaveSteps) = (0.3, true, 0);
        }

        TrainingSummary summary = Run("best", Wild);
        int best = summary.BestStep!.Value;
        Assert.Equal([best], Kept("best"));
        Assert.Equal(File.ReadAllBytes(_bench.PathOf($"best/checkpoint-{best}/adapter_model.safetensors")), Result("best", summary));
        TrainingSummary last = Run("last", options =>
        {
            Wild(options);
            options.LoadBestModelAtEnd = false;
        });
        Assert.NotEqual(Result("best", summary), Result("last", last));
    }

    [Fact]
    public void A_run_ends_early_where_validation_becomes_no_better()
    {
        void Wild(QwenLoraTrainer.Options options)
        {
            Validated(options);
            (options.LearningRate, options.EvaluationSteps, options.EarlyStoppingPatience, options.MaximumSteps) = (0.5, 1, 2, 20);
        }

        TrainingSummary summary = Run("early", Wild);
        Assert.True(summary.StoppedEarly);
        Assert.Equal(summary.BestStep + 2, summary.Steps.Count);
        Assert.Equal(20, summary.Steps[^1].TotalSteps);
        Assert.Equal(summary.Steps.Count, Run("early", Wild, resume: true).Steps.Count); // a run that has ended stays so
        TrainingSummary patient = Run("patient", options =>
        {
            Wild(options);
            options.EarlyStoppingPatience = 5;
        });
        Assert.True(patient.Steps.Count > summary.Steps.Count);
        Assert.Equal(2, Run("threshold", options =>
        {
            Wild(options);
            (options.EarlyStoppingPatience, options.EarlyStoppingThreshold, options.LearningRate) = (1, 100, 1e-4);
        }).Steps.Count); // nothing is by so much better
    }

    [Fact]
    public void What_differs_is_named()
    {
        Run("run", Validated, stopAfter: 3);
        Differs("LearningRate is 0.02, and was 0.01", options => options.LearningRate = 0.02);
        Differs("Seed is 8, and was 7", options => options.Seed = 8);
        Differs("Dropout is 0.2, and was 0.1", options => options.Dropout = 0.2);
        Differs("MaximumSteps is null, and was 6", options => options.MaximumSteps = null);
        Differs("Rank is 8, and was 4", options => options.Rank = 8);
        Differs("TargetModules is 'all-linear', and was [q_proj, v_proj]", options => options.TargetModules = "all-linear");
        Differs("Optimizer is Lion, and was AdamW", options => options.Optimizer = OptimizerKind.Lion);
        Differs("the validation rows are not the same: row 1 is another", options => options.ValidationSet = Rows(("what", "else")));
        Differs("the training rows are not the same: they are 4 rows, and were 3", _ => { }, Rows(("what", "1"), ("why", "2"), ("who", "3"), ("no", "4")));
        Differs("the training rows are not the same: row 2 is another", _ => { },
            _bench.Context.Data.LoadFromEnumerable<Row>([new("what", "a", "1"), new("why", "", "5"), new("who", "c", "3")]));

        string other = TinyCheckpoint.Write(_bench.PathOf("other"), seed: 2);
        Differs("the base's model.safetensors is ", options => options.ModelPath = other);
        Directory.Move(other, _bench.PathOf("moved"));
        Directory.Delete(_bench.PathOf("moved"), recursive: true);

        void Differs(string message, Action<QwenLoraTrainer.Options> change, IDataView? rows = null)
        {
            string refused = Assert.Throws<OptionException>(() => Run("run", options =>
            {
                Validated(options);
                change(options);
            }, resume: true, rows: rows)).Message;
            Assert.Contains(message, refused, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_same_base_in_another_place_is_the_same()
    {
        Run("run", stopAfter: 3);
        string copy = TinyCheckpoint.Write(_bench.PathOf("copy"));
        Assert.Equal(4, Run("run", options => options.ModelPath = copy, resume: true).FirstStep);
    }

    [Fact]
    public void Changes_are_taken_where_they_are_wanted_and_said()
    {
        Run("run", stopAfter: 3);
        TrainingSummary summary = Run("run", options => (options.MaximumSteps, options.ResumeWithChanges) = (8, true), resume: true);
        Assert.Equal((4, 8), (summary.FirstStep, summary.Steps.Count));
        Assert.Contains(summary.Warnings, warning => warning.Contains("MaximumSteps is 8, and was 6", StringComparison.Ordinal));
        Assert.Contains("Rank is 2, and was 4", Assert.Throws<OptionException>(() =>
            Run("run", options => (options.Rank, options.MaximumSteps, options.ResumeWithChanges) = (2, 9, true), resume: true)).Message,
                StringComparison.Ordinal);
        TrainingSummary threads = Run("run", options => (options.MaximumSteps, options.Threads) = (8, 2), resume: true);
        Assert.Contains(threads.Warnings, warning => warning.Contains("Threads is 2, and was 1; the result may differ", StringComparison.Ordinal));
    }

    [Fact]
    public void Damaged_checkpoints_are_passed_over_and_named()
    {
        byte[] expected = Result("whole", Run("whole"));
        foreach (string file in Directory.EnumerateFiles(_bench.PathOf("whole/checkpoint-3")).Select(path => Path.GetFileName(path)!).ToArray())
        {
            foreach (Action<string> damage in (Action<string>[])[Truncate, Flip, File.Delete])
            {
                string name = $"run-{Guid.NewGuid():N}";
                Run(name, stopAfter: 3);
                string damaged = _bench.PathOf($"{name}/checkpoint-3/{file}");
                damage(damaged);
                TrainingSummary summary = Run(name, resume: true);
                Assert.Equal(3, summary.FirstStep);
                Assert.Equal(expected, Result(name, summary));
            }
        }

        Run("all", stopAfter: 1);
        Truncate(_bench.PathOf("all/checkpoint-1/training_state.safetensors"));
        Refused<CheckpointException>("training_state.safetensors has ", options => options.ResumeFrom = _bench.PathOf("all/checkpoint-1"));
        Assert.Equal(1, Run("all", resume: true).FirstStep);

        static void Truncate(string path)
        {
            using FileStream stream = File.OpenWrite(path);
            stream.SetLength(stream.Length / 2);
        }

        static void Flip(string path)
        {
            byte[] bytes = File.ReadAllBytes(path);
            bytes[bytes.Length / 2] ^= 1;
            File.WriteAllBytes(path, bytes);
        }
    }

    [Fact]
    public void One_run_at_a_time_has_the_folder()
    {
        Run("run", options => options.ProgressCallback = step =>
        {
            if (step.Step == 1)
            {
                Assert.Contains("another run is writing to it", Assert.Throws<OptionException>(() => Run("run", resume: true)).Message,
                    StringComparison.Ordinal);
            }
        });
        Assert.Contains("holds checkpoint-6 of an earlier run", Assert.Throws<OptionException>(() => Run("run")).Message, StringComparison.Ordinal);
        Directory.CreateDirectory(_bench.PathOf("run/.checkpoint-0123"));
        Run("run", resume: true);
        Assert.False(Directory.Exists(_bench.PathOf("run/.checkpoint-0123"))); // what a killed process has left
        Assert.DoesNotContain(Directory.EnumerateFileSystemEntries(_bench.PathOf("run")), path => Path.GetFileName(path).StartsWith('.'));
    }

    [Fact]
    public void A_run_from_another_folder_writes_to_none_that_holds_something()
    {
        Run("a", stopAfter: 2);
        Run("b");
        byte[] before = File.ReadAllBytes(_bench.PathOf("b/adapter_model.safetensors"));
        string refused = Assert.Throws<OptionException>(() => Run("b", options => options.ResumeFrom = _bench.PathOf("a"))).Message;
        Assert.Contains("holds checkpoint-6 of an earlier run", refused, StringComparison.Ordinal);
        Refused<OptionException>("holds model.safetensors, the weights of a model", options =>
            (options.OutputFolder, options.ResumeFrom) = (_bench.BaseFolder, _bench.PathOf("a")));
        Assert.Equal(before, File.ReadAllBytes(_bench.PathOf("b/adapter_model.safetensors")));
        Assert.Equal(3, Run("c", options => options.ResumeFrom = _bench.PathOf("a") + Path.DirectorySeparatorChar).FirstStep);
        Assert.Equal(before, File.ReadAllBytes(_bench.PathOf("c/adapter_model.safetensors")));
    }

    [Fact]
    public void What_is_not_ours_is_not_begun_over()
    {
        Directory.CreateDirectory(_bench.PathOf("theirs/checkpoint-500"));
        File.WriteAllText(_bench.PathOf("theirs/checkpoint-500/optimizer.pt"), "");
        Assert.Contains("a checkpoint of transformers", Assert.Throws<OptionException>(() => Run("theirs", resume: true)).Message, StringComparison.Ordinal);
        Assert.True(File.Exists(_bench.PathOf("theirs/checkpoint-500/optimizer.pt")));
        Run("finished", options => options.SaveSteps = 0);
        Assert.Contains("holds adapter_config.json", Assert.Throws<OptionException>(() => Run("finished", resume: true)).Message, StringComparison.Ordinal);
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
        Run("run", options => (options.ResumeFrom, options.ResumeWithChanges, options.LearningRate) = (_bench.PathOf("run/checkpoint-2"), true, 0.02),
            stopAfter: 3);
        Assert.Equal([3, 2, 1], Kept("run"));
        Assert.Equal(4, Run("run", options => options.LearningRate = 0.02, resume: true).FirstStep);
        Assert.Contains("at least 6, which the run has made", Assert.ThrowsAny<Exception>(() =>
            Run("run", options => (options.LearningRate, options.MaximumSteps, options.ResumeWithChanges) = (0.02, 3, true), resume: true)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void The_shape_of_an_initial_adapter_is_that_of_the_run()
    {
        Run("first", options => (options.Alpha, options.SaveSteps) = (64, 0));
        Run("second", options => options.InitialAdapter = _bench.PathOf("first"), stopAfter: 3);
        Assert.Contains("Alpha is 16, and was 64", Assert.Throws<OptionException>(() => Run("second", resume: true)).Message, StringComparison.Ordinal);
        Assert.Equal(4, Run("second", options => options.InitialAdapter = _bench.PathOf("first"), resume: true).FirstStep);
    }

    [Fact]
    public void A_full_training_that_is_stopped_twice_has_the_weights_of_the_second_time()
    {
        void Full(QwenLoraTrainer.Options options) => s_kinds["every weight"](options);
        Run("full", Full, stopAfter: 2);
        Run("full", Full, stopAfter: 4, resume: true);
        Assert.Equal(File.ReadAllBytes(_bench.PathOf("full/checkpoint-4/model.safetensors")), File.ReadAllBytes(_bench.PathOf("full/model.safetensors")));
        Assert.False(File.Exists(_bench.PathOf("full/model.interrupted.safetensors")));
    }

    [Fact]
    public void Wrong_rows_leave_no_folder()
    {
        Assert.Throws<DatasetException>(() => Run("none", rows: Rows(("what", ""))));
        Assert.False(Directory.Exists(_bench.PathOf("none")));
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
    public void A_place_that_cannot_be_written_to_ends_no_run()
    {
        string blocked = _bench.PathOf("run/checkpoint-2");
        TrainingSummary summary = Run("run", options => options.ProgressCallback = step =>
        {
            if (step.Step == 2)
            {
                File.WriteAllText(blocked, "a file where a folder is to be");
            }
        });
        Assert.Contains(summary.Warnings, warning => warning.StartsWith("checkpoint-2 could not be written", StringComparison.Ordinal));
        Assert.Equal([6, 5, 4, 3, 1], Kept("run"));
    }

    [Fact]
    public void Options_that_say_nothing_without_others_are_refused()
    {
        Refused<OptionException>("SaveSteps is 5; it must be null or 0 when OutputFolder is null", options => options.SaveSteps = 5, "");
        Refused<OptionException>("SaveTotalLimit is 2; it must be null when OutputFolder is null",
            options => (options.SaveSteps, options.SaveTotalLimit) = (null, 2), "");
        Refused<OptionException>("SaveTotalLimit is 0; it must be at least 1", options => options.SaveTotalLimit = 0);
        Refused<OptionException>("EarlyStoppingPatience is 2; it must be null when ValidationSet is null", options => options.EarlyStoppingPatience = 2);
        Refused<OptionException>("EarlyStoppingThreshold is 1; it must be 0", options => options.EarlyStoppingThreshold = 1);
        Refused<OptionException>("LoadBestModelAtEnd is True; it must be false", options => options.LoadBestModelAtEnd = true);
        Refused<OptionException>("ResumeWithChanges is True; it must be false", options => options.ResumeWithChanges = true);
        Refused<OptionException>("ResumeFrom is empty", options => options.ResumeFrom = " ");
        Directory.CreateDirectory(_bench.PathOf("checkpoint-500"));
        File.WriteAllText(_bench.PathOf("checkpoint-500/optimizer.pt"), "");
        Refused<OptionException>("a checkpoint of transformers", options => options.ResumeFrom = _bench.PathOf("checkpoint-500"));
    }

    /// <summary>Two evaluations in three steps.</summary>
    private void Validated(QwenLoraTrainer.Options options) => (options.ValidationSet, options.EvaluationSteps) = (Rows(("where", "there")), 2);

    private IDataView Rows(params (string Instruction, string Output)[] rows) =>
        _bench.Context.Data.LoadFromEnumerable(rows.Select(row => new Row(row.Instruction, "", row.Output)));

    private TrainingSummary Run(string name, Action<QwenLoraTrainer.Options>? change = null, int? stopAfter = null, bool resume = false,
        IDataView? rows = null, MLContext? context = null)
    {
        using CancellationTokenSource source = new();
        QwenLoraTrainer.Options options = _bench.TrainerOptions();
        Short(options);
        options.OutputFolder = _bench.PathOf(name);
        options.ResumeFrom = resume ? options.OutputFolder : null;
        options.CancellationToken = source.Token;
        change?.Invoke(options);
        Action<TrainingProgress>? callback = options.ProgressCallback;
        options.ProgressCallback = step =>
        {
            callback?.Invoke(step);
            if (step.Step == stopAfter)
            {
                source.Cancel();
            }
        };
        using QwenLoraTransformer model = (context ?? _bench.Context).TextGeneration.Trainers.QwenLora(options).Fit(rows ?? _bench.Rows);
        Assert.Equal(stopAfter is not null, model.TrainingSummary!.WasCancelled);
        return model.TrainingSummary;
    }

    /// <summary>What a run has written at its end.</summary>
    private byte[] Result(string name, TrainingSummary summary)
    {
        Assert.False(summary.WasCancelled);
        string adapter = _bench.PathOf($"{name}/adapter_model.safetensors");
        return File.ReadAllBytes(File.Exists(adapter) ? adapter : _bench.PathOf($"{name}/model.safetensors"));
    }

    private int[] Kept(string name) => [.. RunFolder.Checkpoints(_bench.PathOf(name)).Select(checkpoint => checkpoint.Step)];

    private JsonElement State(string name, int step) =>
        JsonDocument.Parse(File.ReadAllText(_bench.PathOf($"{name}/checkpoint-{step}/mlnetlora_state.json"))).RootElement;

    private void Refused<T>(string message, Action<QwenLoraTrainer.Options> change, string? output = null)
        where T : Exception => Assert.Contains(message, Assert.Throws<T>(() => Run("refused", options =>
        {
            options.OutputFolder = output is "" ? null : options.OutputFolder;
            change(options);
        })).Message, StringComparison.Ordinal);
}
