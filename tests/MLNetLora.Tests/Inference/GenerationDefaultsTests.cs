using MLNetLora.Inference;
using MLNetLora.Models;

namespace MLNetLora.Tests.Inference;

public sealed class GenerationDefaultsTests
{
    [Theory]
    [InlineData(null, 0f, 50, 1f, 1f, 0f)]
    [InlineData("""{"eos_token_id": 2}""", 0f, 50, 1f, 1f, 0f)]
    [InlineData("""{"do_sample": false, "temperature": 0.7, "top_k": 20}""", 0f, 20, 1f, 1f, 0f)]
    [InlineData("""{"do_sample": true, "min_p": null}""", 1f, 50, 1f, 1f, 0f)]
    [InlineData("""{"do_sample": true, "top_k": null, "temperature": null, "min_p": 0.05}""", 1f, 0, 1f, 1f, 0.05f)]
    [InlineData("""{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}""", 0.7f, 20, 0.8f, 1.05f, 0f)]
    public void What_is_not_said_is_the_checkpoints_as_transformers_takes_it(
        string? file, float temperature, int topK, float topP, float penalty, float minP)
    {
        GenerationOptions options = new GenerationOptions { MaximumNewTokens = 7 }.Resolve(Read(file));

        Assert.Equal((temperature, topK, topP, penalty), (options.Temperature, options.TopK, options.TopP, options.RepetitionPenalty));
        Assert.Equal(minP, options.MinP);
        Assert.Equal(7, options.MaximumNewTokens);
    }

    [Fact]
    public void What_is_said_counts()
    {
        QwenConfig config = Read("""{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.05}""");

        GenerationOptions options = new GenerationOptions { Temperature = 0, TopK = 0, TopP = 1, MinP = 0, RepetitionPenalty = 1 }.Resolve(config);

        Assert.Equal((0f, 0, 1f, 1f), (options.Temperature, options.TopK, options.TopP, options.RepetitionPenalty));
        Assert.Equal(0f, options.MinP);
    }

    [Theory]
    [InlineData("""{"temperature": -1}""", "temperature is -1")]
    [InlineData("""{"top_k": 2.5}""", "top_k is 2.5")]
    [InlineData("""{"top_p": "high"}""", "top_p is \"high\"")]
    [InlineData("""{"min_p": 1.5}""", "min_p is 1.5")]
    [InlineData("""{"repetition_penalty": 0}""", "repetition_penalty is 0")]
    public void A_file_with_a_value_that_makes_no_sense_is_named(string file, string part)
    {
        string message = Assert.Throws<CheckpointException>(() => Read(file)).Message;

        Assert.Contains("generation_config.json", message, StringComparison.Ordinal);
        Assert.Contains(part, message, StringComparison.Ordinal);
    }

    [Fact]
    public void Options_are_bounded()
    {
        Refused(new() { MaximumNewTokens = int.MaxValue }, nameof(GenerationOptions.MaximumNewTokens));
        Refused(new() { BatchSize = 1_000_000 }, nameof(GenerationOptions.BatchSize));
        Refused(new() { StopStrings = [.. Enumerable.Range(0, 65).Select(i => $"{i}")] }, nameof(GenerationOptions.StopStrings));
        Refused(new() { StopStrings = [new string('x', 1025)] }, nameof(GenerationOptions.StopStrings));
        Refused(new() { WhenPromptTooLong = (PromptOverflow)9 }, nameof(GenerationOptions.WhenPromptTooLong));
        Refused(new() { MinP = 1.01f }, nameof(GenerationOptions.MinP));
        Refused(new() { PresencePenalty = 2.01f }, nameof(GenerationOptions.PresencePenalty));
        Refused(new() { PresencePenalty = -2.01f }, nameof(GenerationOptions.PresencePenalty));
        Refused(new() { FrequencyPenalty = 2.01f }, nameof(GenerationOptions.FrequencyPenalty));
        Refused(new() { FrequencyPenalty = float.NaN }, nameof(GenerationOptions.FrequencyPenalty));
        Refused(new() { LogitBias = new Dictionary<int, float> { [1] = 101 } }, "LogitBias is 101 for token 1; it must be between -100 and 100");
        Refused(new() { LogitBias = new Dictionary<int, float> { [1] = float.NaN } }, nameof(GenerationOptions.LogitBias));
        Refused(new() { LogitBias = new Dictionary<int, float> { [-1] = 1 } }, nameof(GenerationOptions.LogitBias));
        Refused(new() { LogitBias = null! }, nameof(GenerationOptions.LogitBias));
        Refused(new() { StopTokenIds = [4, -1] }, "StopTokenIds is for token -1");
        Refused(new() { StopTokenIds = [.. Enumerable.Range(0, 65)] }, nameof(GenerationOptions.StopTokenIds));
        Refused(new() { StopTokenIds = null! }, nameof(GenerationOptions.StopTokenIds));
        Refused(new() { MinimumNewTokens = 5, MaximumNewTokens = 4 }, nameof(GenerationOptions.MinimumNewTokens));
        Refused(new() { TopLogprobs = 21 }, nameof(GenerationOptions.TopLogprobs));
        new GenerationOptions().Validate();
        new GenerationOptions { MinimumNewTokens = 256, TopLogprobs = 0, PresencePenalty = -2, FrequencyPenalty = 2, MinP = 1 }.Validate();

        static void Refused(GenerationOptions options, string name) =>
            Assert.StartsWith(name, Assert.Throws<OptionException>(options.Validate).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Tokens_are_those_of_the_checkpoint()
    {
        QwenConfig config = Read(null);
        int last = config.VocabSize - 1;
        _ = new GenerationOptions { StopTokenIds = [last], LogitBias = new Dictionary<int, float> { [last] = 1 } }.Resolve(config);
        GenerationOptions[] wrong = [new() { StopTokenIds = [last + 1] }, new() { LogitBias = new Dictionary<int, float> { [last + 1] = 1 } }];
        Assert.Equal([nameof(GenerationOptions.StopTokenIds), nameof(GenerationOptions.LogitBias)],
            wrong.Select(options => Assert.Throws<OptionException>(() => options.Resolve(config)).Message.Split(' ')[0]));
    }

    [Fact]
    public void A_copy_keeps_what_the_lists_had()
    {
        List<int> ids = [1];
        Dictionary<int, float> bias = new() { [1] = 1 };
        GenerationOptions copy = new GenerationOptions { StopTokenIds = ids, LogitBias = bias }.Copy();
        ids.Add(2);
        bias[2] = 2;
        Assert.Single(copy.StopTokenIds);
        Assert.Single(copy.LogitBias);
    }

    private static QwenConfig Read(string? generationConfig)
    {
        using TemporaryFolder folder = new();
        TinyModel.WriteConfig(folder.Path, "qwen3", tied: true);
        string file = Path.Combine(folder.Path, "generation_config.json");
        if (generationConfig is null)
        {
            File.Delete(file);
        }
        else
        {
            File.WriteAllText(file, generationConfig);
        }

        return QwenConfig.Read(folder.Path);
    }
}
