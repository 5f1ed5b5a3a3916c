using MLNetLora.Adapters;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.Adapters;

/// <summary>docs/lora-options.md has every option, and the trainer does.</summary>
public sealed class LoraOptionsDocumentTests
{
    [Fact]
    public void Every_option_has_a_row_with_PEFT_s_name()
    {
        string[] rows = [.. File.ReadLines(Path.Combine(Repository.Root, "docs", "lora-options.md"))
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
    public void The_trainer_has_every_option() =>
        Assert.Empty(Options().Except(typeof(QwenLoraTrainer.Options).GetProperties().Select(property => property.Name)));

    private static string[] Options() => [.. typeof(LoraOptions).GetProperties().Where(property => property.CanWrite).Select(property => property.Name)];

    private static string LoraAdapterConfig()
    {
        using TemporaryFolder folder = new();
        LoraOptions options = new() { Rank = 2, ExcludeModules = ["k_proj"], TrainableTokenIndices = [1] };
        return LoraAdapter.Create(options, TinyModel.WriteCheckpoint(folder.File("base")), 1).ToPeftConfigJson();
    }
}
