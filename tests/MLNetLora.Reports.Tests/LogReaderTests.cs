using MLNetLora.Tests;
using MLNetLora.Tests.Training;
using MLNetLora.Training;

namespace MLNetLora.Reports.Tests;

/// <summary>Logs of ours and of transformers, and files that are none.</summary>
public sealed class LogReaderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Our_log_comes_back_as_it_was_written()
    {
        string path = _folder.File("metrics.jsonl");
        JsonLinesLog log = new(path);
        log.OnTrainBegin(SampleRun.Start());
        log.OnStep(SampleRun.Skipped(1));
        log.OnStep(SampleRun.Step(5));
        log.OnSave(5, "there");
        log.OnTrainEnd(null, new IOException("gone"));

        RunRecord run = LogReader.Read(path);
        Assert.Equal([1, 5], run.Steps.Select(step => step.Step));
        Assert.Equal((true, 32768), (run.Steps[0].WasSkipped, run.Steps[0].LossScale));
        Assert.True(double.IsNaN(run.Steps[0].GradientNorm));
        Assert.Equal(SampleRun.Step(5) with { LabelTokens = 0, Tokens = 0, Remaining = default }, run.Steps[1]);
        Assert.Equal([(5, "there")], run.Checkpoints);
        Assert.Equal(("failed", "gone", TimeSpan.FromSeconds(2.5)), (run.Outcome, run.Error, run.Duration));
        TrainingStart start = SampleRun.Start();
        Assert.Equal(start.Options, run.Start!.Options);
        Assert.Equal(start.Warnings, run.Start.Warnings);
        Assert.Equal(start with { Options = [], Warnings = [] }, run.Start with { Options = [], Warnings = [] });
    }

    [Fact]
    public void The_state_in_a_folder_of_ours_comes_back_as_it_was_written()
    {
        string path = _folder.File("trainer_state.json");
        TrainingProgress[] steps =
        [
            SampleRun.Skipped(1) with { GradientNorm = double.NaN },
            .. Enumerable.Range(2, 4).Select(step => SampleRun.Step(step)),
        ];
        steps[^1] = steps[^1] with { ValidationTokenAccuracy = 0.5 };
        File.WriteAllBytes(path, TrainerStateFile.Write(steps, new TrainingOptions(), best: null));

        RunRecord run = LogReader.Read(path);
        Assert.Equal(steps.Select(step => step with { Remaining = default }), run.Steps);
        Assert.Equal(TimeSpan.FromSeconds(2.5), run.Duration);
        Assert.Contains("0:02", File.ReadAllText(RunReport.FromLog(path)), StringComparison.Ordinal);
    }

    [Fact]
    public void The_state_of_transformers_is_read_too()
    {
        // As Trainer writes it: training every 10 steps, validation between, NaN as Python has it.
        string path = _folder.File("trainer_state.json");
        File.WriteAllText(path, """
            { "best_metric": null, "epoch": 2.0, "global_step": 30, "max_steps": 60, "is_local_process_zero": true,
              "log_history": [
                { "epoch": 0.67, "grad_norm": 1.5, "learning_rate": 0.0002, "loss": 2.5, "step": 10 },
                { "epoch": 1.0, "eval_loss": 2.25, "eval_runtime": 0.5, "step": 15 },
                { "epoch": 1.33, "grad_norm": NaN, "learning_rate": 1e-4, "loss": 2.0, "step": 20 },
                { "epoch": 2.0, "grad_norm": -Infinity, "learning_rate": 0.0, "loss": 1.75, "step": 30 },
                { "epoch": 2.0, "eval_loss": 2.125, "step": 30 },
                { "epoch": 2.0, "step": 30, "total_flos": 1.0, "train_loss": 2.08, "train_runtime": 12.5 } ] }
            """);
        RunRecord run = LogReader.Read(path);
        Assert.Equal([10, 15, 20, 30], run.Steps.Select(step => step.Step));
        Assert.All(run.Steps, step => Assert.Equal(60, step.TotalSteps));
        Assert.Equal([2.5, double.NaN, 2, 1.75], run.Steps.Select(step => step.Loss));
        Assert.Equal([null, 2.25, null, 2.125], run.Steps.Select(step => step.ValidationLoss));
        Assert.Equal([1.5, double.NaN, double.NaN, double.NaN], run.Steps.Select(step => step.GradientNorm));
        Assert.Equal(("finished", TimeSpan.FromSeconds(12.5)), (run.Outcome, run.Duration));
        Assert.Null(run.Start);
        Assert.Contains("2.1250", File.ReadAllText(RunReport.FromLog(path)), StringComparison.Ordinal);
    }

    [Fact]
    public void A_line_that_a_killed_process_began_is_left_out_at_the_end_alone()
    {
        string path = _folder.File("metrics.jsonl");
        File.WriteAllText(path, """
            {"step":1,"loss":2}
            {"step":2,"lo
            """);
        Assert.Equal([1], LogReader.Read(path).Steps.Select(step => step.Step));
        File.AppendAllText(path, "\n{\"step\":3,\"loss\":1}\n");
        Assert.Contains("line 2", Assert.Throws<DatasetException>(() => LogReader.Read(path)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("hello")]
    [InlineData("[1, 2]")]
    [InlineData("{}")]
    [InlineData("""{"log_history": []}""")]
    [InlineData("""{"log_history": [1]}""")]
    [InlineData("""{"step": -1, "loss": 2}""")]
    [InlineData("""{"step": 1e99, "loss": 2}""")]
    [InlineData("""{"step": "1", "loss": 2}""")]
    public void What_is_no_log_is_refused_by_name(string text)
    {
        string path = _folder.File("file.json");
        File.WriteAllText(path, text);
        string message = Assert.Throws<DatasetException>(() => RunReport.FromLog(path)).Message;
        Assert.Contains("file.json", message, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder.File("run.html")));
    }

    [Fact]
    public void Figures_of_another_kind_are_as_if_they_were_not_there()
    {
        string path = _folder.File("metrics.jsonl");
        File.WriteAllText(path, """
            {"step":0,"run":{"options":[1],"warnings":{"a":1},"seed":"x","start_time":"never","num_tokens":1e30,"max_steps":null}}
            {"step":1,"loss":"2","grad_norm":{},"elapsed":1e300,"epoch":[],"eval_loss":true,"checkpoint":7}
            {"step":1,"train_runtime":-5,"outcome":3,"error":[]}
            """);
        RunRecord run = LogReader.Read(path);
        Assert.True(double.IsNaN(Assert.Single(run.Steps).Loss));
        Assert.Equal(("finished", null), (run.Outcome, run.Error));
        Assert.True(File.Exists(RunReport.FromLog(path)));
    }

    [Fact]
    public void A_file_that_is_not_there_is_named()
    {
        string message = Assert.Throws<DatasetException>(() => RunReport.FromLog(_folder.File("none.jsonl"))).Message;
        Assert.Contains("none.jsonl", message, StringComparison.Ordinal);
    }
}
