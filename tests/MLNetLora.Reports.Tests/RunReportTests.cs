using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using MLNetLora.Tests;
using MLNetLora.Tests.Training;
using MLNetLora.Training;

namespace MLNetLora.Reports.Tests;

/// <summary>run.html: what it says, when it is written, and that nothing of the data is more than text.</summary>
public sealed partial class RunReportTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Clock _clock = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_finished_run_shows_curves_figures_options_data_warnings_checkpoints_and_answers()
    {
        RunReport report = new(_folder.File("run"));
        report.OnTrainBegin(SampleRun.Start(100));
        foreach (TrainingProgress step in SampleRun.Summary(100).Steps)
        {
            report.OnStep(step);
        }

        report.OnSave(100, "/models/checkpoint-100");
        report.OnTrainEnd(SampleRun.Summary(100) with { Warnings = ["Something was odd."] }, null);
        report.AddSamples([new SampleAnswer("What is it?", "A heron.", "I do not know.", "A heron."), new SampleAnswer("Why?", "So.", "", "No.")]);

        string page = File.ReadAllText(report.PagePath);
        string[] texts = Texts(page);
        string[] expected =
        [
            "Qwen/Qwen3-0.6B", "finished", "validation loss", "0.0400", "lowest validation loss", "step 100", "0:50", "1,000", "2%", "Loss, nats per token",
            "training, moving average", "Learning rate", "Gradient norm", "Tokens per second", "2 of 8 training rows were cut off.", "Something was odd.",
            "/models/checkpoint-100", "What is it?", "I do not know.", "A heron.", "as expected", "So.", "empty", "8 rows, 400 tokens", "LearningRate", "0.001",
            "BatchSize", "learned tokens", "150",
        ];
        Assert.All(expected, text => Assert.Contains(text, texts));
        Assert.DoesNotContain("http-equiv=\"refresh\"", page, StringComparison.Ordinal);
        Assert.Equal(4, Figures().Count(page));
    }

    [Fact]
    public void It_asks_nothing_of_a_network_and_its_policy_knows_its_script_alone()
    {
        RunReport report = new(_folder.Path);
        SampleRun.Play(report);
        string page = File.ReadAllText(report.PagePath);

        Assert.DoesNotMatch(@"(?i)https?://|src=|@import|url\(|<link|<iframe|<img", page);
        string policy = Policy().Match(page).Groups[1].Value;
        string script = Script().Match(page).Groups[1].Value;
        Assert.Contains("cursor", script, StringComparison.Ordinal);
        string hash = Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(script)));
        Assert.Equal($"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{hash}'", policy);
    }

    [Fact]
    public void Whatever_stands_in_data_stays_text()
    {
        const string attack = "</script><script>alert(1)</script>\"><img src=x onerror='alert(2)'>&amp;\u2028公司";
        RunReport report = new(_folder.Path);
        report.OnTrainBegin(SampleRun.Start() with
        {
            ModelPath = attack,
            Device = attack,
            DataStatistics = attack,
            Warnings = [attack],
            Options = [new(attack, attack, IsDefault: false), new(attack, attack, IsDefault: true)],
        });
        report.OnSave(1, attack);
        report.OnTrainEnd(null, new IOException(attack));
        report.AddSamples([new SampleAnswer(attack, attack, attack, attack + "!")]);

        string page = File.ReadAllText(report.PagePath);
        Assert.DoesNotContain("alert(1)</script>", page, StringComparison.Ordinal);
        Assert.DoesNotContain("<img", page, StringComparison.Ordinal);
        Assert.True(Texts(page).Count(text => text.Contains(attack, StringComparison.Ordinal)) >= 12);
    }

    [Fact]
    public void It_is_written_at_the_beginning_at_validations_checkpoints_and_the_end_and_each_30_seconds()
    {
        RunReport report = new(_folder.Path, _clock);
        Assert.False(File.Exists(report.PagePath));
        report.OnTrainBegin(SampleRun.Start(100));
        Assert.Contains("No step has been made yet.", Texts(File.ReadAllText(report.PagePath)));
        Assert.Equal([5, 10, 33, 35, 40], Enumerable.Range(1, 40).Where(step =>
        {
            _clock.Advance(step == 33 ? 31 : 1);
            return Writes(() => report.OnStep(SampleRun.Step(step, 100) with { ValidationLoss = step is 5 or 10 or 35 or 40 ? 1 : null }));
        }));
        Assert.Contains("http-equiv=\"refresh\"", File.ReadAllText(report.PagePath), StringComparison.Ordinal);
        Assert.Contains("running", Texts(File.ReadAllText(report.PagePath)));
        Assert.True(Writes(() => report.OnSave(40, "here")));
        Assert.True(Writes(() => report.OnTrainEnd(null, new IOException("the disk is full"))));
        Assert.Contains("failed", Texts(File.ReadAllText(report.PagePath)));
        Assert.Contains("the disk is full", Texts(File.ReadAllText(report.PagePath)));
        Assert.True(Writes(() => report.AddSamples([new SampleAnswer("q")])));
        Assert.Equal([report.PagePath], Directory.GetFiles(_folder.Path));

        bool Writes(Action act)
        {
            File.Delete(report.PagePath);
            act();
            return File.Exists(report.PagePath);
        }
    }

    [Fact]
    public void Answers_of_before_the_run_are_kept_and_those_of_another_are_not()
    {
        RunReport report = new(_folder.Path);
        report.AddSamples([new SampleAnswer("early")]);
        Assert.False(File.Exists(report.PagePath));
        SampleRun.Play(report);
        Assert.Contains("early", Texts(File.ReadAllText(report.PagePath)));
        SampleRun.Play(report);
        Assert.DoesNotContain("early", Texts(File.ReadAllText(report.PagePath)));
    }

    [Fact]
    public void A_resumed_run_shows_its_earlier_steps_from_the_log_beside_it()
    {
        JsonLinesLog log = new(_folder.File("metrics.jsonl"));
        SampleRun.Play(log);
        RunReport report = new(_folder.Path);
        report.OnTrainBegin(SampleRun.Start(firstStep: 11));
        report.OnStep(SampleRun.Step(11));
        report.OnTrainEnd(null, new OperationCanceledException());
        string page = File.ReadAllText(report.PagePath);
        Assert.Contains("resumed at step 11", string.Join(' ', Texts(page)), StringComparison.Ordinal);
        Assert.Contains("cancelled", Texts(page));
        Assert.Equal(Enumerable.Range(1, 11), LossSteps(page));
    }

    [Fact]
    public void A_resumed_run_has_taken_the_time_of_its_earlier_steps()
    {
        RunReport report = new(_folder.Path);
        report.OnTrainBegin(SampleRun.Resumed(firstStep: 11));
        Assert.Contains("0:05", Texts(File.ReadAllText(report.PagePath)));
    }

    [Fact]
    public void A_page_that_cannot_be_written_on_the_way_is_told_once()
    {
        List<string> warnings = [];
        RunReport report = new(_folder.File("run"));
        report.OnTrainBegin(SampleRun.Start() with { Warn = warnings.Add });
        File.Delete(report.PagePath);
        Directory.CreateDirectory(report.PagePath);
        report.OnSave(1, "here");
        report.OnSave(2, "there");
        report.OnTrainEnd(SampleRun.Summary(2), null);
        Assert.StartsWith($"{report.PagePath} could not be written, and the training goes on", Assert.Single(warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void A_log_that_cannot_be_read_does_not_keep_a_run_from_going_on()
    {
        File.WriteAllText(_folder.File("metrics.jsonl"), "what is this?\n");
        RunReport report = new(_folder.Path);
        report.OnTrainBegin(SampleRun.Start(firstStep: 11));
        report.OnStep(SampleRun.Step(15));
        string page = File.ReadAllText(report.PagePath);
        Assert.Contains(Texts(page), text => text.StartsWith("The steps before 11 are missing here. ", StringComparison.Ordinal));
        Assert.Equal([15], LossSteps(page));
    }

    [Fact]
    public void A_log_makes_the_page_of_its_run()
    {
        string log = _folder.File("metrics.jsonl");
        SampleRun.Play(new JsonLinesLog(log));
        RunReport report = new(_folder.File("live"));
        SampleRun.Play(report);
        string page = RunReport.FromLog(log);
        Assert.Equal(_folder.File("run.html"), page);
        string[] live = Texts(File.ReadAllText(report.PagePath));
        Assert.Equal(live[..^1], Texts(File.ReadAllText(page))[..^1]); // the last says when it was written
        Assert.Equal(_folder.File("there/run.html"), RunReport.FromLog(log, _folder.File("there")));
    }

    private static int[] LossSteps(string page) =>
        [.. JsonDocument.Parse(ChartData().Match(page).Groups[1].Value).RootElement.GetProperty("curves")[0].GetProperty("x").EnumerateArray()
            .Select(x => x.GetInt32())];

    /// <summary>The texts that a reader sees, without tags, style and scripts.</summary>
    private static string[] Texts(string page) =>
        [.. Tag().Split(Unseen().Replace(page, "")).Select(text => WebUtility.HtmlDecode(text).Trim()).Where(text => text.Length > 0)];

    [GeneratedRegex("<figure")]
    private static partial Regex Figures();

    [GeneratedRegex("Content-Security-Policy\" content=\"([^\"]*)\"")]
    private static partial Regex Policy();

    [GeneratedRegex("<script>(.*?)</script>", RegexOptions.Singleline)]
    private static partial Regex Script();

    [GeneratedRegex("<script type=\"application/json\">(.*?)</script>", RegexOptions.Singleline)]
    private static partial Regex ChartData();

    [GeneratedRegex("<(style|script).*?</\\1>", RegexOptions.Singleline)]
    private static partial Regex Unseen();

    [GeneratedRegex("<[^>]*>")]
    private static partial Regex Tag();

    private sealed class Clock : TimeProvider
    {
        private long _now = 1_000_000;

        public override long TimestampFrequency => 1;

        public void Advance(long seconds) => _now += seconds;

        public override long GetTimestamp() => _now;
    }
}
