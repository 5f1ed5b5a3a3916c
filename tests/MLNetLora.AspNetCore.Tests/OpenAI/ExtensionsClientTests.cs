using System.ComponentModel;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.AI;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>Microsoft.Extensions.AI over OpenAI's package as a client.</summary>
public class ExtensionsClientTests(OpenAIServer server) : IClassFixture<OpenAIServer>
{
    [Fact]
    public async Task Text_and_usage_come_through()
    {
        using IChatClient client = server.Client.GetChatClient(OpenAIServer.Model).AsIChatClient();
        ChatOptions options = new() { MaxOutputTokens = 8, Temperature = 0, StopSequences = ["§"], Seed = 1 };
        ChatResponse whole = await client.GetResponseAsync("Name three colours.", options);
        ChatResponse streamed = await client.GetStreamingResponseAsync("Name three colours.", options).ToChatResponseAsync();
        Assert.NotEmpty(whole.Text);
        Assert.Equal((whole.Text, whole.FinishReason, whole.Usage!.OutputTokenCount), (streamed.Text, streamed.FinishReason, streamed.Usage!.OutputTokenCount));
        Assert.Equal((OpenAIServer.Model, ChatFinishReason.Length, 8L), (whole.ModelId, whole.FinishReason, whole.Usage.OutputTokenCount));
    }

    [Fact]
    public async Task Thinking_comes_through_as_reasoning()
    {
        using IChatClient client = server.Client.GetChatClient(OpenAIServer.Thinker).AsIChatClient();
        ChatResponse response = await client.GetResponseAsync("Why?", new ChatOptions { MaxOutputTokens = 8 });
        Assert.NotEmpty(response.Messages.SelectMany(message => message.Contents).OfType<TextReasoningContent>().Single().Text);
        Assert.Equal("", response.Text);
    }

    [Fact]
    public async Task A_typed_answer_is_read()
    {
        using IChatClient client = server.Client.GetChatClient(OpenAIServer.Model).AsIChatClient();
        ChatResponse<Colour> response = await client.GetResponseAsync<Colour>(
            "A colour?",
            new JsonSerializerOptions(JsonSerializerDefaults.Web) { TypeInfoResolver = new DefaultJsonTypeInfoResolver() },
            new ChatOptions { MaxOutputTokens = 200, Temperature = 0 });
        Assert.InRange(response.Result.Red, 0, 255);
    }

    [Fact]
    public async Task A_required_call_is_made_and_its_result_goes_back()
    {
        List<string> cities = [];
        AIFunction weather = AIFunctionFactory.Create(
            ([AllowedValues("Oslo", "Rome")] string city) =>
            {
                cities.Add(city);
                return "rain";
            },
            "weather");
        using IChatClient client = server.Client.GetChatClient(OpenAIServer.Thinker).AsIChatClient();
        ChatOptions options = new()
        {
            MaxOutputTokens = 120,
            Temperature = 0,
            Tools = [weather],
            ToolMode = ChatToolMode.RequireSpecific("weather"),
            AllowMultipleToolCalls = false,
            Reasoning = new ReasoningOptions { Effort = ReasoningEffort.None },
        };
        ChatResponse response = await client.GetResponseAsync("The weather in Oslo?", options);
        Assert.Equal(ChatFinishReason.ToolCalls, response.FinishReason);
        FunctionCallContent call = response.Messages.SelectMany(message => message.Contents).OfType<FunctionCallContent>().Single();
        Assert.Equal("weather", call.Name);
        object? result = await weather.InvokeAsync(new AIFunctionArguments(call.Arguments));

        ChatResponse streamed = await client.GetStreamingResponseAsync("The weather in Oslo?", options).ToChatResponseAsync();
        FunctionCallContent same = streamed.Messages.SelectMany(message => message.Contents).OfType<FunctionCallContent>().Single();
        Assert.Equal(JsonSerializer.Serialize(call.Arguments), JsonSerializer.Serialize(same.Arguments));

        options.ToolMode = ChatToolMode.None;
        options.MaxOutputTokens = 4;
        List<ChatMessage> history =
            [new(ChatRole.User, "The weather in Oslo?"), .. response.Messages, new(ChatRole.Tool, [new FunctionResultContent(call.CallId, result)])];
        Assert.NotEmpty((await client.GetResponseAsync(history, options)).Text);
        Assert.Single(cities);
    }

    [Description("A colour")]
    private sealed record Colour([property: System.ComponentModel.DataAnnotations.Range(0, 255)] int Red);

    [AttributeUsage(AttributeTargets.Parameter)]
    private sealed class AllowedValuesAttribute(params string[] values) : System.ComponentModel.DataAnnotations.AllowedValuesAttribute(values)
    {
    }
}
