using System.Text.RegularExpressions;
using MLNetLora.Tests;
using MLNetLora.Tests.Training;
using MLNetLora.Training;

namespace MLNetLora.Reports.Tests;

/// <summary>What docs/runs.md says is so: its code compiles and runs, and the keys, tags and instruments that it lists are those that there are.</summary>
public sealed partial class RunsDocumentTests
{
    private static readonly string s_page = File.ReadAllText(Path.Combine(Repository.Root, "docs", "runs.md")).ReplaceLineEndings("\n");

    [Fact]
    public void The_code_is_what_the_tests_compile() => Assert.Equal(
        [Code(nameof(RunsExample), indent: 8), Code(nameof(StopWhenLearned), indent: 0)],
        CSharpBlock().Matches(s_page).Select(block => block.Groups[1].Value.Trim()));

    [Fact]
    public void The_code_runs_and_writes_the_files()
    {
        using TemporaryFolder folder = new();
        File.Copy(Path.Combine(Repository.Root, "samples", "CompanyQa", "company_data.json"), folder.File("company_data.json"));
        RunsExample.Run(name => name.StartsWith("Qwen/", StringComparison.Ordinal) ? Repository.Nano : folder.File(name));

        string[] files = [.. Directory.EnumerateFiles(folder.File("run"), "*", SearchOption.AllDirectories)
            .Select(file => Path.GetRelativePath(folder.File("run"), file)).Order(StringComparer.Ordinal)];
        Assert.Equal(["loss.png", "metrics.jsonl", "run.html"], files.Where(file => !file.StartsWith("tensorboard", StringComparison.Ordinal)));
        Assert.Equal(4, files.Length);
        string html = File.ReadAllText(folder.File("run/run.html"));
        Assert.Contains("How do I claim travel expenses?", html, StringComparison.Ordinal);
        Assert.Contains(">finished<", html, StringComparison.Ordinal);
    }

    [Fact]
    public void The_keys_of_the_log_are_those_that_are_written()
    {
        using TemporaryFolder folder = new();
        JsonLinesLog log = new(folder.File("metrics.jsonl"));
        log.OnTrainBegin(SampleRun.Start());
        log.OnStep(SampleRun.Skipped(1));
        log.OnStep(SampleRun.Step(5));
        log.OnSave(5, "there");
        log.OnTrainEnd(SampleRun.Summary(5), null);
        log.OnTrainEnd(null, new IOException("gone"));
        string[] written = [.. File.ReadLines(folder.File("metrics.jsonl"))
            .SelectMany(line => System.Text.Json.JsonDocument.Parse(line).RootElement.EnumerateObject().Select(property => property.Name)).Distinct()];
        string table = s_page.Split("### metrics.jsonl")[1].Split("A number that is not finite")[0];
        string[] keys = [.. table.Split('\n').Where(line => line.StartsWith("| `", StringComparison.Ordinal))
            .SelectMany(line => Quoted().Matches(line.Split('|')[1]).Select(match => match.Groups[1].Value))];
        Assert.Equal(written.Order(StringComparer.Ordinal), keys.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_instruments_are_those_that_there_are()
    {
        List<string> published = [];
        using (System.Diagnostics.Metrics.MeterListener listener = new())
        {
            listener.InstrumentPublished = (instrument, _) =>
            {
                if (instrument.Meter.Name == TrainingMetrics.MeterName)
                {
                    published.Add($"| `{instrument.Name}` | {instrument.Unit} |");
                }
            };
            SampleRun.Play(new TrainingMetrics.Run());
            listener.Start();
        }

        string[] listed = [.. s_page.Split('\n').Where(line => line.StartsWith("| `mlnetlora.", StringComparison.Ordinal))
            .Select(line => line[..(line.IndexOf('|', line.IndexOf('|', 2) + 1) + 1)])];
        Assert.Equal(published.Order(StringComparer.Ordinal), listed.Order(StringComparer.Ordinal));
    }

    private static string Code(string name, int indent)
    {
        string source = File.ReadAllText(Path.Combine(Repository.Root, "tests", "MLNetLora.Reports.Tests", name + ".cs")).ReplaceLineEndings("\n");
        string[] lines = source.Split("// DOCS begin\n")[1].Split("// DOCS end")[0].TrimEnd().Split('\n');
        string usings = string.Join('\n', source.Split('\n').TakeWhile(line => line.StartsWith("using ", StringComparison.Ordinal)));
        return usings + "\n\n" + string.Join('\n', lines.Select(line => Wrapped().Replace(line.Length > indent ? line[indent..] : "", "$1")));
    }

    [GeneratedRegex("```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();

    [GeneratedRegex(@"In\((""[^""]*"")\)")]
    private static partial Regex Wrapped();

    [GeneratedRegex("`([a-z_]+)`")]
    private static partial Regex Quoted();
}
