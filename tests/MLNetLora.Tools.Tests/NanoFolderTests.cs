using System.Text.Json;
using MLNetLora.Tools.NanoQwen;
using MLNetLora.Tools.NanoQwen.Model;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.Tests;

public sealed class NanoFolderTests
{
    [Fact]
    public void The_prepared_folder_holds_everything_but_the_weights()
    {
        using TemporaryFolder data = new();
        using TemporaryFolder folder = new();
        NanoShape shape = new() { VocabularySize = 512 };
        Preparation preparation = Preparation.Make(SmallWorld.WriteDataFolder(data), shape, SmallWorld.Options);
        preparation.WriteFolder(folder.Path);

        using JsonDocument config = JsonDocument.Parse(File.ReadAllBytes(folder.At("config.json")));
        using JsonDocument generation = JsonDocument.Parse(File.ReadAllBytes(folder.At("generation_config.json")));
        int end = preparation.Vocabulary.SpecialId(Vocabulary.MessageEnd);
        int endOfText = preparation.Vocabulary.SpecialId(Vocabulary.EndOfText);
        Assert.Equal("Qwen3ForCausalLM", config.RootElement.GetProperty("architectures")[0].GetString());
        Assert.True(config.RootElement.GetProperty("vocab_size").GetInt32() >= preparation.Vocabulary.Size);
        Assert.Equal(end, config.RootElement.GetProperty("eos_token_id").GetInt32());
        Assert.Equal([end, endOfText], generation.RootElement.GetProperty("eos_token_id").EnumerateArray().Select(id => id.GetInt32()));
        Assert.Empty(Directory.GetFiles(folder.Path, "*.partial"));
        string card = File.ReadAllText(folder.At("README.md"));
        Assert.Contains(ModelCard.Unknown, card, StringComparison.Ordinal);
        Assert.DoesNotContain("{{", card, StringComparison.Ordinal);
    }

    [Fact]
    public void A_figure_without_a_place_is_refused() =>
        Assert.Contains("perplexity", Assert.Throws<OptionException>(() => ModelCard.Fill(new Dictionary<string, string> { ["perplexity"] = "1" })).Message,
            StringComparison.Ordinal);

    [Fact]
    public void The_default_sizes_stay_below_ten_megabytes()
    {
        NanoShape shape = new();
        Assert.Equal(4_393_728, shape.Parameters);
        Assert.InRange(shape.Bytes, 1, 10_000_000);
    }
}
