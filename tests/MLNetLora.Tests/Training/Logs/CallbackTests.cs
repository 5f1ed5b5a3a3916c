using MLNetLora.Tests.TextGeneration;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>What callbacks of the trainer hear, and what comes of what they throw.</summary>
public sealed class CallbackTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void They_hear_everything_in_order_on_the_thread_of_Fit()
    {
        List<string> heard = [];
        int thread = Environment.CurrentManagedThreadId;
        Recorder first = new("1", heard);
        Recorder second = new("2", heard);
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            options.MaximumSteps = 2;
            options.ProgressCallback = step => heard.Add($"P step {step.Step}");
            options.Callbacks = [first, second];
        });

        Assert.Equal(
            ["1 begin", "2 begin", "P step 1", "1 step 1", "2 step 1", "P step 2", "1 step 2", "2 step 2", "1 end finished", "2 end finished"], heard);
        Assert.Equal([thread], first.Threads.Distinct());
        Assert.Equal(model.TrainingSummary!.Steps, first.Summary!.Steps);
    }

    [Fact]
    public void The_beginning_says_what_will_be_trained()
    {
        Recorder recorder = new();
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            options.NumberOfEpochs = 2;
            options.GradientAccumulationSteps = 2;
            options.LearningRate = 1e-3;
            options.TargetModules = ["q_proj", "v_proj"];
            options.Rank = 4;
            options.ValidationSet = _bench.Rows;
            options.Callbacks = [recorder];
        });

        TrainingStart start = recorder.Start!;
        Assert.Equal((_bench.BaseFolder, "Lora", "cpu", 7), (start.ModelPath, start.Method, start.Device, start.Seed));
        Assert.Equal((1, 4, 3L, 3L), (start.FirstStep, start.TotalSteps, start.Rows, start.ValidationRows));
        Assert.Equal(start.TotalSteps, model.TrainingSummary!.Steps.Count);
        Assert.Equal(2 * start.LabelTokens, model.TrainingSummary.Steps.Sum(step => step.LabelTokens));
        Assert.Equal(2 * start.Tokens, model.TrainingSummary.Steps.Sum(step => step.Tokens));
        Assert.Equal(model.Adapter.ParameterCount, start.TrainableParameters);
        Assert.Equal(MLNetLora.Models.Checkpoint.Open(_bench.BaseFolder).ParameterCount + start.TrainableParameters, start.AllParameters);
        Assert.StartsWith("3 rows, ", start.DataStatistics, StringComparison.Ordinal);
        Assert.InRange(start.StartTime, DateTimeOffset.Now - TimeSpan.FromMinutes(5), DateTimeOffset.Now);
        Dictionary<string, TrainingOption> options = start.Options.ToDictionary(option => option.Name);
        Assert.Equal(new TrainingOption("LearningRate", "0.001", IsDefault: false), options["LearningRate"]);
        Assert.Equal(new TrainingOption("TargetModules", "q_proj, v_proj", IsDefault: true), options["TargetModules"]);
        Assert.Equal(new TrainingOption("Shuffle", "true", IsDefault: true), options["Shuffle"]);
        Assert.Equal(new TrainingOption("Device", "cpu", IsDefault: true), options["Device"]);
        Assert.Equal(new TrainingOption("MaximumSteps", "null", IsDefault: true), options["MaximumSteps"]);
        Assert.Equal(new TrainingOption("Generation.MaximumNewTokens", "6", IsDefault: false), options["Generation.MaximumNewTokens"]);
        Assert.DoesNotContain("ValidationSet", options.Keys);
        Assert.DoesNotContain("Callbacks", options.Keys);
    }

    [Fact]
    public void Every_option_that_is_data_is_told()
    {
        string[] told = [.. OptionList.Of(new QwenLoraTrainer.Options()).Select(option => option.Name)];
        string[] notData = ["ProgressCallback", "Callbacks", "CancellationToken", "ValidationSet", "Generation"];
        string[] all = [.. typeof(QwenLoraTrainer.Options).GetProperties().Where(property => property.CanWrite).Select(property => property.Name)];
        Assert.Equal(all.Except(notData).Order(), told.Where(name => !name.Contains('.', StringComparison.Ordinal)).Order());
        Assert.All(OptionList.Of(new QwenLoraTrainer.Options { Device = MLNetLora.Runtime.Device.Cpu }), option => Assert.True(option.IsDefault, option.Name));
    }

    [Fact]
    public void Full_training_tells_its_checkpoint()
    {
        Recorder recorder = new();
        string output = _bench.PathOf("trained");
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            options.Method = FineTuningMethod.Full;
            options.OutputFolder = output;
            options.MaximumSteps = 2;
            options.Callbacks = [recorder];
        });
        Assert.Equal(["begin", "step 1", "step 2", $"saved 2 {output}", "end finished"], recorder.Heard);
        Assert.Equal("Full", recorder.Start!.Method);
        Assert.Equal(recorder.Start.AllParameters, recorder.Start.TrainableParameters);
    }

    [Theory]
    [InlineData("begin")]
    [InlineData("step 2")]
    [InlineData("end finished")]
    public void What_they_throw_ends_the_run_and_the_end_is_told_once(string sign)
    {
        IOException cause = new("the disk of the report is full");
        Recorder before = new();
        Recorder throwing = new() { At = sign, Throws = cause };
        Recorder after = new();
        Exception error = Assert.ThrowsAny<Exception>(() => _bench.Fit(options => (options.MaximumSteps, options.Callbacks) = (3, [before, throwing, after])));

        if (sign == "begin")
        {
            Assert.Same(cause, error);
            Assert.Equal(["begin", "end failed"], before.Heard);
            Assert.Equal(["begin"], throwing.Heard); // it has not begun
            Assert.Empty(after.Heard);
        }
        else
        {
            TrainingException kept = Assert.IsType<TrainingException>(error);
            Assert.Same(cause, kept.InnerException);
            Assert.Equal(sign == "step 2" ? 2 : 3, kept.LastGoodStep);
            Assert.NotNull(kept.LastGoodAdapter);
            Assert.Equal(sign == "step 2" ? ["begin", "step 1", "end failed"] : ["begin", "step 1", "step 2", "step 3", "end finished"], after.Heard);
            Assert.Single(before.Heard, line => line.StartsWith("end", StringComparison.Ordinal));
            Assert.Single(throwing.Heard, line => line.StartsWith("end", StringComparison.Ordinal));
        }
    }

    [Fact]
    public void The_error_of_a_run_comes_out_whatever_its_end_throws()
    {
        InvalidOperationException cause = new("the first");
        Recorder throwing = new() { At = "end failed", Throws = new IOException("the second") };
        TrainingException error = Assert.Throws<TrainingException>(() => _bench.Fit(options =>
            (options.MaximumSteps, options.ProgressCallback, options.Callbacks) = (3, _ => throw cause, [throwing])));
        Assert.Same(cause, error.InnerException);
        Assert.Same(error, throwing.Error);
    }

    [Fact]
    public void Cancellation_is_an_end_too()
    {
        using CancellationTokenSource source = new();
        Recorder recorder = new() { Step = _ => source.Cancel() };
        using QwenLoraTransformer model = _bench.Fit(options => (options.CancellationToken, options.Callbacks) = (source.Token, [recorder]));
        Assert.Equal(["begin", "step 1", "end cancelled"], recorder.Heard);
        Assert.True(recorder.Summary!.WasCancelled);

        using CancellationTokenSource early = new();
        Recorder before = new() { Begin = early.Cancel };
        OperationCanceledException error = Assert.Throws<OperationCanceledException>(
            () => _bench.Fit(options => (options.CancellationToken, options.Callbacks) = (early.Token, [before])));
        Assert.Equal(["begin", "end cancelled"], before.Heard);
        Assert.Same(error, before.Error);
    }

    [Fact]
    public void What_is_wrong_before_a_run_begins_is_none_of_theirs()
    {
        Recorder recorder = new();
        Assert.Throws<DatasetException>(() => _bench.Trainer(options => options.Callbacks = [recorder])
            .Fit(_bench.Context.Data.LoadFromEnumerable<Row>([])));
        Assert.Empty(recorder.Heard);
        Assert.Contains("Callbacks", Assert.Throws<OptionException>(() => _bench.Trainer(options => options.Callbacks = [null!])).Message,
            StringComparison.Ordinal);
        Assert.Contains("Callbacks", Assert.Throws<OptionException>(() => _bench.Trainer(options => options.Callbacks = null!)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_log_that_cannot_be_written_ends_no_run_and_is_a_warning()
    {
        List<string> said = [];
        _bench.Context.Log += (_, e) =>
        {
            if (e.Kind == Microsoft.ML.Runtime.ChannelMessageKind.Warning)
            {
                said.Add(e.RawMessage);
            }
        };
        Recorder last = new() { Step = progress => _ = progress.Step == 1 ? Remove() : 0 };
        using QwenLoraTransformer model = _bench.Fit(options => (options.GradientAccumulationSteps, options.NumberOfEpochs, options.Callbacks) =
            (1, 1, [new JsonLinesLog(_bench.PathOf("logs/metrics.jsonl")), last]));
        string expected = $"{_bench.PathOf("logs/metrics.jsonl")} could not be written";
        Assert.Equal(3, model.TrainingSummary!.Steps.Count);
        Assert.Single(model.TrainingSummary.Warnings, warning => warning.StartsWith(expected, StringComparison.Ordinal));
        Assert.Equal(model.TrainingSummary.Warnings, last.Summary!.Warnings);
        Assert.Single(said, warning => warning.StartsWith(expected, StringComparison.Ordinal));

        int Remove()
        {
            Directory.Delete(_bench.PathOf("logs"), recursive: true);
            return 0;
        }
    }

    private sealed class Recorder(string name = "", List<string>? heard = null) : TrainingCallback
    {
        public List<string> Heard { get; } = heard ?? [];

        public List<int> Threads { get; } = [];

        public TrainingStart? Start { get; private set; }

        public TrainingSummary? Summary { get; private set; }

        public Exception? Error { get; private set; }

        public string At { get; init; } = "";

        public Exception? Throws { get; init; }

        public Action<TrainingProgress>? Step { get; init; }

        public Action? Begin { get; init; }

        public override void OnTrainBegin(TrainingStart start)
        {
            Start = start;
            Begin?.Invoke();
            Hear("begin");
        }

        public override void OnStep(TrainingProgress progress)
        {
            Step?.Invoke(progress);
            Hear($"step {progress.Step}");
        }

        public override void OnSave(int savedStep, string folder) => Hear($"saved {savedStep} {folder}");

        public override void OnTrainEnd(TrainingSummary? summary, Exception? failure)
        {
            Assert.True(summary is null != failure is null);
            (Summary, Error) = (summary, failure);
            Hear($"end {RunOutcome.Of(summary, failure)}");
        }

        private void Hear(string what)
        {
            Heard.Add(name.Length > 0 ? $"{name} {what}" : what);
            Threads.Add(Environment.CurrentManagedThreadId);
            if (what == At)
            {
                throw Throws!;
            }
        }
    }
}
