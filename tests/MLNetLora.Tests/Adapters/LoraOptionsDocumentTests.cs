using System.Globalization;
using System.Reflection;
using MLNetLora.Adapters;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Adapters;

/// <summary>docs/lora-options.md has every option, and the trainer does.</summary>
public sealed class LoraOptionsDocumentTests
{
    private const string OptimizerHeading = "## The optimizer";

    [Fact]
    public void Every_option_has_a_row_with_PEFT_s_name()
    {
        string[] rows = [.. File.ReadLines(Path.Combine(Repository.Root, "docs", "lora-options.md"))
            .TakeWhile(line => line != OptimizerHeading)
            .Where(line => line.StartsWith("| `", StringComparison.Ordinal))];
        string written = LoraAdapterConfig();
        foreach (string option in Options())
        {
            string[] cells = [.. Assert.Single(rows, row => row.StartsWith($"| `{option}` |", StringComparison.Ordinal))
                .Split('|').Select(cell => cell.Trim())];
            Assert.Equal(7, cells.Length);
            Assert.Contains($"\"{cells[2].Trim('`')}\"", written, StringComparison.Ordinal);
        }

        Assert.Equal(Options().Length, rows.Length);
    }

    [Fact]
    public void Every_option_of_the_optimizer_has_a_row_with_its_default()
    {
        string[] rows = [.. File.ReadLines(Path.Combine(Repository.Root, "docs", "lora-options.md"))
            .SkipWhile(line => line != OptimizerHeading)
            .Where(line => line.StartsWith("| `", StringComparison.Ordinal))];
        string[] beginnings = ["Optimizer", "LoraPlus", "LearningRate", "WeightDecay", "MaximumGradientNorm", "Adam", "Lion"];
        PropertyInfo[] options = [.. typeof(TrainingOptions).GetProperties()
            .Where(property => beginnings.Any(beginning => property.Name.StartsWith(beginning, StringComparison.Ordinal)))];
        Assert.Equal(10, options.Length);
        TrainingOptions defaults = new();
        foreach (PropertyInfo option in options)
        {
            string[] cells = [.. Assert.Single(rows, row => row.StartsWith($"| `{option.Name}` |", StringComparison.Ordinal))
                .Split('|').Select(cell => cell.Trim())];
            Assert.Equal(7, cells.Length);
            string ours = cells[3].Split(' ')[0].Trim('`');
            object? value = option.GetValue(defaults);
            bool isSame = value is double number ? double.Parse(ours, CultureInfo.InvariantCulture) == number : ours == (value?.ToString() ?? "null");
            Assert.True(isSame, option.Name);
        }

        Assert.Equal(options.Length, rows.Length);
    }

    [Fact]
    public void The_trainer_has_every_option() =>
        Assert.Empty(Options().Except(typeof(QwenLoraTrainer.Options).GetProperties().Select(property => property.Name)));

    private static string[] Options() => [.. typeof(LoraOptions).GetProperties().Where(property => property.CanWrite).Select(property => property.Name)];

    private static string LoraAdapterConfig()
    {
        LoraOptions options = new()
        {
            ExcludeModules = ["k_proj"],
            TrainableTokenIndices = [1],
            TargetParameters = ["o_proj.weight"],
        };
        return PeftConfig.Write(options, "base", []);
    }
}
