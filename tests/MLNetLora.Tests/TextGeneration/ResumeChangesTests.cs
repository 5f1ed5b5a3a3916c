using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Runs that go on otherwise than they began: what differs is named, and taken where that is wanted.</summary>
public sealed class ResumeChangesTests : RunTests
{
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
            Bench.Context.Data.LoadFromEnumerable<Row>([new("what", "a", "1"), new("why", "", "5"), new("who", "c", "3")]));

        string other = TinyCheckpoint.Write(Bench.PathOf("other"), seed: 2);
        Differs("the base's model.safetensors is ", options => options.ModelPath = other);
        Directory.Move(other, Bench.PathOf("moved"));
        Directory.Delete(Bench.PathOf("moved"), recursive: true);

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
    public void The_shape_of_an_initial_adapter_is_that_of_the_run()
    {
        Run("first", options => (options.Alpha, options.SaveSteps) = (64, 0));
        Run("second", options => options.InitialAdapter = Bench.PathOf("first"), stopAfter: 3);
        Assert.Contains("Alpha is 16, and was 64", Assert.Throws<OptionException>(() => Run("second", resume: true)).Message, StringComparison.Ordinal);
        Assert.Equal(4, Run("second", options => options.InitialAdapter = Bench.PathOf("first"), resume: true).FirstStep);
    }

    [Fact]
    public void Options_that_say_nothing_without_others_are_refused()
    {
        Refused<OptionException>("SaveSteps is 5; it must be null or 0 when OutputFolder is null", options => options.SaveSteps = 5, "");
        Refused<OptionException>("SaveEveryEpoch is True; it must be false when OutputFolder is null",
            options => (options.SaveSteps, options.SaveEveryEpoch) = (null, true), "");
        Refused<OptionException>("SaveEveryEpoch is True; it must be false when SaveSteps is 0",
            options => (options.SaveSteps, options.SaveEveryEpoch) = (0, true));
        Refused<OptionException>("SaveTotalLimit is 2; it must be null when OutputFolder is null",
            options => (options.SaveSteps, options.SaveTotalLimit) = (null, 2), "");
        Refused<OptionException>("SaveTotalLimit is 0; it must be at least 1", options => options.SaveTotalLimit = 0);
        Refused<OptionException>("EarlyStoppingPatience is 2; it must be null when ValidationSet is null", options => options.EarlyStoppingPatience = 2);
        Refused<OptionException>("EarlyStoppingThreshold is 1; it must be 0", options => options.EarlyStoppingThreshold = 1);
        Refused<OptionException>("LoadBestModelAtEnd is True; it must be false", options => options.LoadBestModelAtEnd = true);
        Refused<OptionException>("ResumeWithChanges is True; it must be false", options => options.ResumeWithChanges = true);
        Refused<OptionException>("ResumeFrom is empty", options => options.ResumeFrom = " ");
        Directory.CreateDirectory(Bench.PathOf("checkpoint-500"));
        File.WriteAllText(Bench.PathOf("checkpoint-500/optimizer.pt"), "");
        Refused<OptionException>("a checkpoint of transformers", options => options.ResumeFrom = Bench.PathOf("checkpoint-500"));
    }
}
