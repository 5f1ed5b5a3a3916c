using System.Text.Json;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>metrics.jsonl: an object a line, under the names of transformers.</summary>
public sealed class JsonLinesLogTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string LogPath => _folder.File("run/metrics.jsonl");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_run_is_its_options_its_steps_its_validations_and_its_end()
    {
        JsonLinesLog log = new(LogPath);
        log.OnTrainBegin(SampleRun.Start());
        log.OnStep(SampleRun.Step(4));
        log.OnStep(SampleRun.Step(5));
        log.OnSave(5, "checkpoint-5");
        log.OnTrainEnd(SampleRun.Summary(5), null);

        JsonElement[] lines = Lines();
        JsonElement run = lines[0].GetProperty("run");
        Assert.Equal(0, lines[0].GetProperty("step").GetInt32());
        Assert.Equal("Qwen/Qwen3-0.6B", run.GetProperty("model_name_or_path").GetString());
        Assert.Equal("a | b\nc", run.GetProperty("options").GetProperty("SystemPrompt").GetString());
        Assert.Equal(["LearningRate", "SystemPrompt"], run.GetProperty("changed_options").EnumerateArray().Select(name => name.GetString()));
        Assert.Equal(20, run.GetProperty("max_steps").GetInt32());
        Assert.Equal(
            ["step", "epoch", "loss", "grad_norm", "learning_rate", "num_input_tokens_seen", "tokens_per_second", "elapsed", "remaining"],
            lines[1].EnumerateObject().Select(property => property.Name));
        Assert.Equal((4, 0.75, 4.5), (lines[1].GetProperty("step").GetInt32(), lines[1].GetProperty("loss").GetDouble(),
            lines[1].GetProperty("grad_norm").GetDouble()));
        Assert.Equal((80, 160), (lines[1].GetProperty("num_input_tokens_seen").GetInt32(), lines[2].GetProperty("num_input_tokens_seen").GetInt32()));
        Assert.Equal((5, 0.8), (lines[3].GetProperty("step").GetInt32(), lines[3].GetProperty("eval_loss").GetDouble()));
        Assert.Equal("checkpoint-5", lines[4].GetProperty("checkpoint").GetString());
        Assert.Equal(("finished", 2.5), (lines[5].GetProperty("outcome").GetString(), lines[5].GetProperty("train_runtime").GetDouble()));
        Assert.Equal((3.0 + 1.5 + 1 + 0.75 + 0.6) / 5, lines[5].GetProperty("train_loss").GetDouble(), 1e-9);
        Assert.Equal(6, lines.Length);
    }

    [Fact]
    public void Each_line_is_there_when_its_step_is_made()
    {
        JsonLinesLog log = new(LogPath);
        log.OnTrainBegin(SampleRun.Start());
        for (int step = 1; step <= 4; step++)
        {
            log.OnStep(SampleRun.Step(step));
            Assert.Equal(step, Lines()[^1].GetProperty("step").GetInt32());
            Assert.EndsWith("\n", File.ReadAllText(LogPath), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Numbers_that_JSON_has_not_are_null()
    {
        JsonLinesLog log = new(LogPath);
        log.OnTrainBegin(SampleRun.Start());
        log.OnStep(SampleRun.Skipped(1));
        JsonElement line = Lines()[^1];
        Assert.Equal(JsonValueKind.Null, line.GetProperty("grad_norm").ValueKind);
        Assert.True(line.GetProperty("skipped").GetBoolean());
        Assert.Equal(32768, line.GetProperty("loss_scale").GetDouble());
    }

    [Fact]
    public void A_resumed_run_goes_on_in_the_file_without_the_steps_that_it_makes_again()
    {
        JsonLinesLog first = new(LogPath);
        first.OnTrainBegin(SampleRun.Start());
        for (int step = 1; step <= 7; step++)
        {
            first.OnStep(SampleRun.Step(step));
        }

        first.OnTrainEnd(null, new IOException("the power failed"));
        File.AppendAllText(LogPath, """{"step":3,"lo"""); // what a killed process leaves

        JsonLinesLog second = new(LogPath);
        second.OnTrainBegin(SampleRun.Start(firstStep: 6));
        second.OnStep(SampleRun.Step(6) with { Loss = 0.25 });

        JsonElement[] lines = Lines();
        Assert.Equal([1, 2, 3, 4, 5, 6], lines.Where(line => line.TryGetProperty("loss", out _)).Select(line => line.GetProperty("step").GetInt32()));
        Assert.DoesNotContain(lines, line => line.TryGetProperty("outcome", out _));
        Assert.Equal(0.25, lines[^1].GetProperty("loss").GetDouble());
        Assert.Equal(6 * 80, lines[^1].GetProperty("num_input_tokens_seen").GetInt32());
        Assert.Equal([0, 5], lines.Where(line => line.TryGetProperty("run", out _)).Select(line => line.GetProperty("step").GetInt32()));
    }

    [Fact]
    public void A_resumed_run_counts_on_in_a_new_file_and_in_one_that_has_lost_lines()
    {
        JsonLinesLog log = new(LogPath);
        log.OnTrainBegin(SampleRun.Resumed(firstStep: 6));
        log.OnStep(SampleRun.Step(6));
        Assert.Equal(6 * 80, Lines()[^1].GetProperty("num_input_tokens_seen").GetInt32());
        log.OnTrainBegin(SampleRun.Resumed(firstStep: 8)); // the line of step 7 is missing
        log.OnStep(SampleRun.Step(8));
        Assert.Equal(8 * 80, Lines()[^1].GetProperty("num_input_tokens_seen").GetInt32());
    }

    [Fact]
    public void What_ends_before_it_goes_on_has_taken_the_time_of_its_steps()
    {
        JsonLinesLog log = new(LogPath);
        log.OnTrainBegin(SampleRun.Resumed(firstStep: 6));
        log.OnTrainEnd(null, new OperationCanceledException());
        Assert.Equal(2.5, Lines()[^1].GetProperty("train_runtime").GetDouble());
    }

    [Fact]
    public void What_cannot_be_written_is_told_once_a_run_and_tried_again()
    {
        List<string> warnings = [];
        JsonLinesLog log = new(LogPath);
        for (int run = 1; run <= 2; run++)
        {
            log.OnTrainBegin(SampleRun.Start() with { Warn = warnings.Add });
            File.Delete(LogPath);
            Directory.CreateDirectory(LogPath);
            log.OnStep(SampleRun.Step(1));
            log.OnStep(SampleRun.Step(2));
            Assert.Equal(run, warnings.Count);
            Assert.Contains($"{LogPath} could not be written, and the training goes on", warnings[^1], StringComparison.Ordinal);
            Directory.Delete(LogPath);
            log.OnStep(SampleRun.Step(3));
            Assert.Equal(3, Assert.Single(Lines()).GetProperty("step").GetInt32());
        }
    }

    [Fact]
    public void A_new_run_takes_the_place_of_an_older_file()
    {
        SampleRun.Play(new JsonLinesLog(LogPath));
        JsonLinesLog again = new(LogPath);
        again.OnTrainBegin(SampleRun.Start());
        Assert.Single(Lines());
    }

    [Fact]
    public void The_end_says_what_failed()
    {
        JsonLinesLog log = new(LogPath);
        log.OnTrainBegin(SampleRun.Start());
        log.OnStep(SampleRun.Step(1));
        log.OnTrainEnd(null, new IOException("the disk is full"));
        Assert.Equal(("failed", "the disk is full", 0.5), (Lines()[^1].GetProperty("outcome").GetString(), Lines()[^1].GetProperty("error").GetString(),
            Lines()[^1].GetProperty("train_runtime").GetDouble()));
        log.OnTrainBegin(SampleRun.Start());
        log.OnTrainEnd(null, new OperationCanceledException());
        Assert.Equal("cancelled", Lines()[^1].GetProperty("outcome").GetString());
        log.OnTrainEnd(SampleRun.Summary(2) with { WasCancelled = true }, null);
        Assert.Equal("cancelled", Lines()[^1].GetProperty("outcome").GetString());
    }

    private JsonElement[] Lines() => [.. File.ReadLines(LogPath).Select(line => JsonDocument.Parse(line).RootElement)];
}
