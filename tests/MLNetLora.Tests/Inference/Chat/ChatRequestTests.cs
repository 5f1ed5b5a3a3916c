using System.Text.Json;
using Microsoft.Extensions.AI;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference;

/// <summary>Every field of ChatOptions: what it comes to, or why it is refused.</summary>
public class ChatRequestTests
{
    private static readonly AIFunction s_tool = AIFunctionFactory.Create((string city) => city, "weather");
    private static readonly AIFunction s_other = AIFunctionFactory.Create(() => 1, "time");

    [Fact]
    public void No_options_are_the_defaults()
    {
        GenerationOptions defaults = new() { MaximumNewTokens = 7, TopK = 3 };
        ChatRequest request = Request(null, defaults);
        Assert.Equal((7, 3), (request.Generation.MaximumNewTokens, request.Generation.TopK));
        Assert.Equal((null, true, 0), (request.EnableThinking, request.ShowsThinking, request.Tools.Count));
        Assert.NotSame(defaults, request.Generation);
        Assert.Equal(7, Request(new ChatOptions(), defaults).Generation.MaximumNewTokens);
    }

    [Fact]
    public void What_is_sampled_and_how_long_it_gets()
    {
        GenerationOptions options = Request(new ChatOptions
        {
            Temperature = 0.5f,
            TopP = 0.25f,
            TopK = 9,
            Seed = 12,
            MaxOutputTokens = 33,
            StopSequences = ["b", "a"],
            PresencePenalty = 0.75f,
            FrequencyPenalty = -0.5f,
            ModelId = "model",
            AllowBackgroundResponses = true,
        }).Generation;
        Assert.Equal((0.75f, -0.5f), (options.PresencePenalty, options.FrequencyPenalty));
        Assert.Equal((0.5f, 0.25f, 9, 12, 33), (options.Temperature, options.TopP, options.TopK, options.Seed, options.MaximumNewTokens));
        Assert.Equal(["b", "a"], options.StopStrings);
    }

    [Theory]
    [InlineData(12L, 12)]
    [InlineData(-5L, -5)]
    [InlineData(5_000_000_000L, 705032705)]
    public void Seeds_of_64_bits_are_folded(long seed, int expected) => Assert.Equal(expected, Request(new ChatOptions { Seed = seed }).Generation.Seed);

    [Fact]
    public void Our_own_options_may_come_whole_and_are_copied()
    {
        GenerationOptions own = new()
        {
            TopK = 4,
            MaximumNewTokens = 5,
            Temperature = 1,
            StopStrings = ["own"],
            WhenPromptTooLong = PromptOverflow.TruncateLeft,
        };
        GenerationOptions options = Request(new ChatOptions { RawRepresentationFactory = _ => own, TopK = 6, StopSequences = ["other"] }).Generation;
        Assert.Equal((6, 5, 1f, PromptOverflow.TruncateLeft), (options.TopK, options.MaximumNewTokens, options.Temperature, options.WhenPromptTooLong));
        Assert.Equal(["own", "other"], options.StopStrings);
        Assert.Equal(4, own.TopK);
        Assert.Equal(1000, Request(new ChatOptions { RawRepresentationFactory = _ => null }).Generation.MaximumNewTokens);
        Assert.Contains("System.String", Assert.Throws<NotSupportedException>(() => Request(new ChatOptions { RawRepresentationFactory = _ => "x" })).Message);
    }

    [Theory]
    [InlineData(null, null)]
    [InlineData(ReasoningEffort.None, false)]
    [InlineData(ReasoningEffort.Low, true)]
    [InlineData(ReasoningEffort.ExtraHigh, true)]
    public void Reasoning_turns_thinking_on_and_off(ReasoningEffort? effort, bool? thinking) =>
        Assert.Equal(thinking, Request(new ChatOptions { Reasoning = new ReasoningOptions { Effort = effort } }).EnableThinking);

    [Fact]
    public void Reasoning_output_may_be_left_out()
    {
        Assert.False(Request(new ChatOptions { Reasoning = new ReasoningOptions { Output = ReasoningOutput.None } }).ShowsThinking);
        Assert.True(Request(new ChatOptions { Reasoning = new ReasoningOptions { Output = ReasoningOutput.Full } }).ShowsThinking);
    }

    [Fact]
    public void Tools_are_shown_unless_the_mode_says_otherwise()
    {
        Assert.Equal([s_tool], Request(new ChatOptions { Tools = [s_tool] }).Tools);
        Assert.Equal([s_tool], Request(new ChatOptions { Tools = [s_tool], ToolMode = ChatToolMode.Auto }).Tools);
        Assert.Empty(Request(new ChatOptions { Tools = [s_tool], ToolMode = ChatToolMode.None }).Tools);
        Assert.Empty(Request(new ChatOptions { Tools = [] }).Tools);
        Assert.True(Request(new ChatOptions { Tools = [s_tool], AllowMultipleToolCalls = false }).Generation.EndsWithCall);
        Assert.False(Request(new ChatOptions { Tools = [s_tool] }).Generation.EndsWithCall);
        Assert.False(Request(new ChatOptions { AllowMultipleToolCalls = false }).Generation.EndsWithCall);
    }

    [Fact]
    public void What_the_answer_must_be_is_a_constraint()
    {
        JsonElement schema = JsonDocument.Parse("""{"type": "integer"}""").RootElement;
        Assert.Null(Request(new ChatOptions { ResponseFormat = ChatResponseFormat.Text }).Generation.Constraint);
        Assert.Null(Request(new ChatOptions { Tools = [s_tool] }).Generation.Constraint);
        Assert.Same(OutputConstraint.JsonObject, Request(new ChatOptions { ResponseFormat = ChatResponseFormat.Json }).Generation.Constraint);
        ChatOptions[] held =
        [
            new() { ResponseFormat = ChatResponseFormat.ForJsonSchema(schema) },
            new() { ResponseFormat = ChatResponseFormat.ForJsonSchema(schema), Tools = [s_tool] },
            new() { ResponseFormat = ChatResponseFormat.Json, Tools = [s_tool] },
            new() { Tools = [s_tool, s_other], ToolMode = ChatToolMode.RequireAny },
            new() { Tools = [s_tool, s_other], ToolMode = ChatToolMode.RequireSpecific("time") },
        ];
        foreach (ChatOptions options in held)
        {
            Assert.NotNull(Request(options).Generation.Constraint);
        }
    }

    [Fact]
    public void What_cannot_be_done_is_refused_in_words()
    {
        Refused<NotSupportedException>("ConversationId", new ChatOptions { ConversationId = "1" });
        Refused<NotSupportedException>("ContinuationToken", new ChatOptions { ContinuationToken = ResponseContinuationToken.FromBytes(new byte[1]) });
        Refused<OptionException>("answers with \"model\"", new ChatOptions { ModelId = "gpt" });
        Refused<NotSupportedException>("HostedWebSearchTool", new ChatOptions { Tools = [new HostedWebSearchTool()] });
        Refused<OptionException>("two functions named weather", new ChatOptions { Tools = [s_tool, s_tool] });
        Refused<OptionException>("Tools is empty", new ChatOptions { ToolMode = ChatToolMode.RequireAny });
        Refused<OptionException>("requires a call of x, but Tools holds weather, time",
            new ChatOptions { Tools = [s_tool, s_other], ToolMode = ChatToolMode.RequireSpecific("x") });
        Refused<NotSupportedException>("does not write them", new ChatOptions { Tools = [s_tool] }, new TemplateFeatures(false, true));
        Refused<NotSupportedException>(
            "enable_thinking", new ChatOptions { AdditionalProperties = new() { ["enable_thinking"] = true } }, new TemplateFeatures(true, false));
        Assert.Null(Request(new ChatOptions()).EnableThinking);
    }

    [Fact]
    public void Our_own_properties_are_found_under_their_names_and_others_left_alone()
    {
        JsonElement no = JsonSerializer.SerializeToElement(false);
        ChatRequest request = Request(new ChatOptions
        {
            AdditionalProperties = new() { ["RepetitionPenalty"] = 1.5, ["stream_options"] = new object(), ["enable_thinking"] = no },
        });
        Assert.Equal((1.5f, false), (request.Generation.RepetitionPenalty, request.EnableThinking));
        JsonElement json = JsonDocument.Parse("""
            {"min_p": 0.25, "logit_bias": {"7": -2.5}, "min_tokens": 3, "stop_token_ids": [4, 5], "ignore_eos": true, "logprobs": true, "top_logprobs": 2,
             "continue_final_message": true}
            """).RootElement;
        AssertOwn(Request(new ChatOptions { AdditionalProperties = new(json.EnumerateObject().ToDictionary(item => item.Name, item => (object?)item.Value)) }));
        AssertOwn(Request(new ChatOptions
        {
            AdditionalProperties = new()
            {
                ["MinP"] = 0.25,
                ["LogitBias"] = new Dictionary<int, float> { [7] = -2.5f },
                ["MinimumNewTokens"] = 3L,
                ["StopTokenIds"] = new List<int> { 4, 5 },
                ["IgnoreEndOfText"] = true,
                ["TopLogprobs"] = 2,
                ["ContinueFinalMessage"] = true,
            },
        }));
        Assert.Equal(0, Request(new ChatOptions { AdditionalProperties = new() { ["logprobs"] = true } }).Generation.TopLogprobs);
        Assert.Null(Request(new ChatOptions { AdditionalProperties = new() { ["logprobs"] = false } }).Generation.TopLogprobs);
        foreach ((string key, object wrong) in ((string, object)[])
            [("logit_bias", "x"), ("stop_token_ids", "4"), ("ignore_eos", 1), ("top_logprobs", 1.5), ("min_tokens", 1L << 40), ("logit_bias", json)])
        {
            Refused<OptionException>($"AdditionalProperties[\"{key}\"]", new ChatOptions { AdditionalProperties = new() { [key] = wrong } });
        }

        Refused<OptionException>("AdditionalProperties[\"repetition_penalty\"] is high; it must be a number",
            new ChatOptions { AdditionalProperties = new() { ["repetition_penalty"] = "high" } });
    }

    private static void AssertOwn(ChatRequest request)
    {
        GenerationOptions options = request.Generation;
        Assert.Equal((0.25f, 3, true, 2), (options.MinP, options.MinimumNewTokens, options.IgnoreEndOfText, options.TopLogprobs));
        Assert.Equal([new KeyValuePair<int, float>(7, -2.5f)], options.LogitBias);
        Assert.Equal([4, 5], options.StopTokenIds);
        Assert.True(options.ContinueFinalMessage);
    }

    private static void Refused<T>(string what, ChatOptions options, TemplateFeatures? features = null)
        where T : Exception => Assert.Contains(what, Assert.Throws<T>(() => Request(options, features: features)).Message, StringComparison.Ordinal);

    private static ChatRequest Request(ChatOptions? options, GenerationOptions? defaults = null, TemplateFeatures? features = null)
    {
        using QwenChatClient client = new(new ScriptedSource(_ => ""), "model");
        return ChatRequest.From(
            options, client, "model", defaults ?? new GenerationOptions { MaximumNewTokens = 1000 }, features ?? new TemplateFeatures(true, true));
    }
}
