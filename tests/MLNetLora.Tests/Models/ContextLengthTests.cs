using System.Text.Json.Nodes;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;

namespace MLNetLora.Tests.Models;

/// <summary>How many tokens a model's context has, and that generation goes that far.</summary>
public sealed class ContextLengthTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(32768, """{"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}""", 131072)] // Qwen2.5's model card
    [InlineData(40960, """{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}""", 131072)] // Qwen3's
    [InlineData(131072, """{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}""", 131072)]
    [InlineData(32768, """{"rope_type": "yarn", "factor": 4.0}""", 131072)]
    [InlineData(32768, """{"rope_type": "yarn", "factor": 0.5}""", 32768)]
    [InlineData(32768, """{"rope_type": "yarn", "factor": 1e300}""", int.MaxValue)]
    [InlineData(32768, """{"rope_type": "linear", "factor": 4.0}""", 32768)]
    [InlineData(32768, "null", 32768)]
    public void Yarn_multiplies_the_context(int positions, string scaling, int expected)
    {
        string folder = Config(positions, scaling);
        Assert.Equal(expected, QwenConfig.Read(folder).ContextLength);
    }

    [Fact]
    public void Generation_goes_to_the_end_of_it_and_says_so()
    {
        TinyModel.WriteCheckpoint(_folder.File("tiny"), positions: 16);
        Write(_folder.File("tiny"), 16, """{"rope_type": "yarn", "factor": 2.0}""");
        JsonNode config = JsonNode.Parse(File.ReadAllText(Path.Combine(_folder.File("tiny"), "config.json")))!;
        config["eos_token_id"] = null;
        File.WriteAllText(Path.Combine(_folder.File("tiny"), "config.json"), config.ToJsonString());
        using CausalLanguageModel model = new(Checkpoint.Open(_folder.File("tiny")), threads: 1);
        GeneratedIds answer = model.Generate([[1, 2, 3]], new GenerationOptions { MaximumNewTokens = 1000 })[0];
        Assert.Equal((32 - 3, FinishReason.Length), (answer.Ids.Count, answer.Reason));
        Assert.Contains("between 1 and 31", Assert.Throws<OptionException>(() => model.Generate([new int[32]], new GenerationOptions())).Message);
    }

    private string Config(int positions, string scaling)
    {
        TinyModel.WriteConfig(_folder.File("config"), "qwen2", tied: true);
        Write(_folder.File("config"), positions, scaling);
        return _folder.File("config");
    }

    private static void Write(string folder, int positions, string scaling)
    {
        string path = Path.Combine(folder, "config.json");
        JsonNode config = JsonNode.Parse(File.ReadAllText(path))!;
        config["max_position_embeddings"] = positions;
        config["rope_scaling"] = JsonNode.Parse(scaling);
        File.WriteAllText(path, config.ToJsonString());
    }
}
