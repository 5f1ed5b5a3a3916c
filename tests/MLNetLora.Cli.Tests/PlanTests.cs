using System.Text.Json;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Tests;

/// <summary>plan, with its probes in processes of their own.</summary>
public sealed class PlanTests
{
    private static string Nano => Path.Combine(Repository.Root, "samples", "models", "qwen3-nano");

    [Fact]
    public async Task A_plan_has_figures_for_the_run_and_for_other_options()
    {
        Outcome outcome = (await Cli.Run("plan", "--model", Nano, "--rows", "20", "--length", "16", "--prepack-weights", "--json")).Succeeded();
        JsonElement plan = JsonDocument.Parse(outcome.Out).RootElement;
        JsonElement asked = plan.GetProperty("asked");
        Assert.Equal(JsonValueKind.Null, asked.GetProperty("failure").ValueKind);
        Assert.True(asked.GetProperty("peak_bytes").GetDouble() > 1e6);
        Assert.True(asked.GetProperty("step_seconds").GetDouble() > 0);
        Assert.Equal(9, asked.GetProperty("steps").GetInt32()); // 20 micro-batches are 3 windows of 8, in each of 3 epochs
        Assert.Equal(3 * 20 * 16, asked.GetProperty("tokens").GetDouble());
        JsonElement[] others = [.. plan.GetProperty("others").EnumerateArray()];
        Assert.Contains(others, other => other.GetProperty("changes").TryGetProperty("ActivationCheckpointing", out _));
        Assert.All(others, other => Assert.Equal("fits", other.GetProperty("fit").GetString()));
        Assert.Contains("measuring as asked", outcome.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("4", 4)]
    [InlineData("3 and 12", 3, 12)]
    [InlineData("3, 12 and 24", 3, 12, 24)]
    public void Parts_that_were_measured_are_listed(string expected, params int[] layers) => Assert.Equal(expected, PlanReport.Listed(layers));

    [Fact]
    public async Task Rows_of_files_are_planned_with_the_settings_of_a_training()
    {
        using TemporaryFolder folder = new();
        string data = folder.At("rows.jsonl");
        await File.WriteAllLinesAsync(data, Enumerable.Range(0, 9).Select(i => $$"""{"instruction": "Say {{i}}", "output": "{{i}}"}"""));
        Outcome outcome = (await Cli.Run("plan", "--model", Nano, "--data", data, "--epochs", "1", "--validation-size", "2", "--asked-only")).Succeeded();
        Assert.Contains("evaluation", outcome.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("PrepackWeights", outcome.Out, StringComparison.Ordinal);
        Assert.Equal([data], Directory.EnumerateFileSystemEntries(folder.Path)); // nothing is written
    }

    [Fact]
    public async Task Rows_are_either_counted_or_in_files()
    {
        Assert.NotEqual(0, (await Cli.Run("plan", "--model", Nano, "--rows", "2", "--data", "rows.jsonl")).Code);
        Assert.NotEqual(0, (await Cli.Run("plan", "--model", Nano, "--rows", "0")).Code);
        Assert.Equal(ExitCode.Usage, (await Cli.Run("plan", "--model", Nano, "--rows", "2147483647", "--length", "2")).Code);
        Assert.NotEqual(0, (await Cli.Run("plan", "--model", Nano)).Code);
        Assert.DoesNotContain("plan-probe", (await Cli.Run("--help")).Out, StringComparison.Ordinal);
    }
}
