using MLNetLora.Inference;
using MLNetLora.Models;

namespace MLNetLora.Tests.Inference;

public sealed class GenerationDefaultsTests
{
    [Theory]
    [InlineData(null, 0f, 50, 1f, 1f)]
    [InlineData("""{"eos_token_id": 2}""", 0f, 50, 1f, 1f)]
    [InlineData("""{"do_sample": false, "temperature": 0.7, "top_k": 20}""", 0f, 20, 1f, 1f)]
    [InlineData("""{"do_sample": true}""", 1f, 50, 1f, 1f)]
    [InlineData("""{"do_sample": true, "top_k": null, "temperature": null}""", 1f, 0, 1f, 1f)]
    [InlineData("""{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}""", 0.7f, 20, 0.8f, 1.05f)]
    public void What_is_not_said_is_the_checkpoints_as_transformers_takes_it(string? file, float temperature, int topK, float topP, float penalty)
    {
        GenerationOptions options = new GenerationOptions { MaximumNewTokens = 7 }.Resolve(Read(file));

        Assert.Equal((temperature, topK, topP, penalty), (options.Temperature, options.TopK, options.TopP, options.RepetitionPenalty));
        Assert.Equal(7, options.MaximumNewTokens);
    }

    [Fact]
    public void What_is_said_counts()
    {
        QwenConfig config = Read("""{"do_sample": true, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}""");

        GenerationOptions options = new GenerationOptions { Temperature = 0, TopK = 0, TopP = 1, RepetitionPenalty = 1 }.Resolve(config);

        Assert.Equal((0f, 0, 1f, 1f), (options.Temperature, options.TopK, options.TopP, options.RepetitionPenalty));
    }

    [Theory]
    [InlineData("""{"temperature": -1}""", "temperature is -1")]
    [InlineData("""{"top_k": 2.5}""", "top_k is 2.5")]
    [InlineData("""{"top_p": "high"}""", "top_p is \"high\"")]
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
        new GenerationOptions().Validate();

        static void Refused(GenerationOptions options, string name) =>
            Assert.StartsWith(name, Assert.Throws<OptionException>(options.Validate).Message, StringComparison.Ordinal);
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
