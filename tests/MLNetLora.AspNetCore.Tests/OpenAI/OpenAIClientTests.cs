#pragma warning disable OPENAI001 // what the package calls experimental is what is tried here
using System.ClientModel;
using System.Text;
using System.Text.Json;
using OpenAI.Chat;
using OpenAI.Models;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>OpenAI's own package for .NET as a client.</summary>
public class OpenAIClientTests(OpenAIServer server) : IClassFixture<OpenAIServer>
{
    private readonly ChatClient _chat = server.Client.GetChatClient(OpenAIServer.Model);

    private static readonly ChatMessage[] s_question = [new SystemChatMessage("Be brief."), new UserChatMessage("Name three colours.")];

    [Fact]
    public async Task A_chat_is_answered()
    {
        ChatCompletion answer = await _chat.CompleteChatAsync(s_question, new ChatCompletionOptions { MaxOutputTokenCount = 8, Temperature = 0 });
        Assert.Equal(ChatMessageRole.Assistant, answer.Role);
        Assert.Equal(ChatFinishReason.Length, answer.FinishReason);
        Assert.NotEmpty(answer.Content.Single().Text);
        Assert.Equal(8, answer.Usage.OutputTokenCount);
        Assert.Equal(answer.Usage.InputTokenCount + 8, answer.Usage.TotalTokenCount);
        Assert.Equal(OpenAIServer.Model, answer.Model);
        Assert.StartsWith("fp_", answer.SystemFingerprint, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_chat_is_streamed_with_its_usage()
    {
        ChatCompletionOptions options = new() { MaxOutputTokenCount = 12, Temperature = 1.3f, Seed = 5, PresencePenalty = 0.5f, FrequencyPenalty = 0.5f };
        ChatCompletion whole = await _chat.CompleteChatAsync(s_question, options);
        StringBuilder text = new();
        List<StreamingChatCompletionUpdate> updates = [];
        await foreach (StreamingChatCompletionUpdate update in _chat.CompleteChatStreamingAsync(s_question, options))
        {
            updates.Add(update);
            text.Append(string.Concat(update.ContentUpdate.Select(part => part.Text)));
        }

        Assert.Equal(whole.Content[0].Text, text.ToString());
        Assert.Equal(whole.FinishReason, updates.Single(update => update.FinishReason is not null).FinishReason);
        Assert.Equal(whole.Usage.TotalTokenCount, updates[^1].Usage.TotalTokenCount);
        Assert.Equal(ChatMessageRole.Assistant, updates[0].Role);
    }

    [Fact]
    public async Task Models_are_listed_and_found()
    {
        OpenAIModelCollection models = await server.Client.GetOpenAIModelClient().GetModelsAsync();
        Assert.Equal([OpenAIServer.Model, OpenAIServer.Thinker], models.Select(model => model.Id));
        Assert.All(models, model => Assert.Equal("mlnetlora", model.OwnedBy));
        JsonElement card = JsonElement.Parse(await server.Http.GetStringAsync(new Uri($"models/{OpenAIServer.Model}", UriKind.Relative)));
        Assert.Equal(512, card.GetProperty("max_model_len").GetInt32());
        OpenAIModel found = await server.Client.GetOpenAIModelClient().GetModelAsync(OpenAIServer.Model);
        Assert.Equal(DateTimeOffset.UnixEpoch, found.CreatedAt);
    }

    [Fact]
    public async Task Log_probabilities_are_read()
    {
        ChatCompletionOptions options = new() { MaxOutputTokenCount = 5, Temperature = 0, IncludeLogProbabilities = true, TopLogProbabilityCount = 3 };
        ChatCompletion answer = await _chat.CompleteChatAsync(s_question, options);
        Assert.Equal(5, answer.ContentTokenLogProbabilities.Count);
        Assert.Equal(answer.Content[0].Text, string.Concat(answer.ContentTokenLogProbabilities.Select(token => token.Token)));
        foreach (ChatTokenLogProbabilityDetails token in answer.ContentTokenLogProbabilities)
        {
            Assert.Equal(token.Token, Encoding.UTF8.GetString(token.Utf8Bytes!.Value.Span));
            Assert.Equal(3, token.TopLogProbabilities.Count);
            Assert.Equal((token.Token, token.LogProbability), (token.TopLogProbabilities[0].Token, token.TopLogProbabilities[0].LogProbability));
        }

        List<string> streamed = [];
        await foreach (StreamingChatCompletionUpdate update in _chat.CompleteChatStreamingAsync(s_question, options))
        {
            streamed.AddRange(update.ContentTokenLogProbabilities.Select(token => token.Token));
        }

        Assert.Equal(answer.ContentTokenLogProbabilities.Select(token => token.Token), streamed);
    }

    [Fact]
    public async Task An_answer_is_what_a_schema_says()
    {
        BinaryData schema = BinaryData.FromString(
            """
            {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}},
             "required": ["colour", "count"], "additionalProperties": false}
            """);
        ChatCompletionOptions options = new()
        {
            MaxOutputTokenCount = 60,
            Temperature = 1,
            Seed = 3,
            ResponseFormat = ChatResponseFormat.CreateJsonSchemaFormat("colours", schema, jsonSchemaIsStrict: true),
        };
        ChatCompletion answer = await _chat.CompleteChatAsync(s_question, options);
        Assert.Equal(ChatFinishReason.Stop, answer.FinishReason);
        JsonElement value = JsonElement.Parse(answer.Content[0].Text);
        Assert.Contains(value.GetProperty("colour").GetString(), new[] { "red", "green" });
        Assert.InRange(value.GetProperty("count").GetInt32(), 1, 9);

        options.ResponseFormat = ChatResponseFormat.CreateJsonObjectFormat();
        ChatCompletion any = await _chat.CompleteChatAsync(s_question, options);
        Assert.StartsWith("{", any.Content[0].Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Required_calls_stream_as_they_are_whole()
    {
        ChatCompletionOptions options = new()
        {
            MaxOutputTokenCount = 100,
            Temperature = 0,
            AllowParallelToolCalls = false,
            ReasoningEffortLevel = new ChatReasoningEffortLevel("none"),
            ToolChoice = ChatToolChoice.CreateRequiredChoice(),
        };
        options.Tools.Add(ChatTool.CreateFunctionTool("paint", "Paints.", BinaryData.FromString(
            """{"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"], "additionalProperties": false}""")));
        ChatClient client = server.Client.GetChatClient(OpenAIServer.Thinker);
        ChatCompletion whole = await client.CompleteChatAsync(s_question, options);
        Assert.Equal(ChatFinishReason.ToolCalls, whole.FinishReason);
        ChatToolCall call = Assert.Single(whole.ToolCalls);
        Assert.Equal("paint", call.FunctionName);
        Assert.Contains(JsonElement.Parse(call.FunctionArguments).GetProperty("colour").GetString(), new[] { "red", "green" });

        StringBuilder arguments = new();
        await foreach (StreamingChatCompletionUpdate update in client.CompleteChatStreamingAsync(s_question, options))
        {
            foreach (StreamingChatToolCallUpdate part in update.ToolCallUpdates)
            {
                arguments.Append(part.FunctionArgumentsUpdate);
            }
        }

        Assert.Equal(call.FunctionArguments.ToString(), arguments.ToString());
    }

    [Fact]
    public async Task Errors_have_their_status_and_say_what_was_wrong()
    {
        ClientResultException missing = await Assert.ThrowsAsync<ClientResultException>(() =>
            server.Client.GetChatClient("gpt-4").CompleteChatAsync(s_question));
        Assert.Equal(404, missing.Status);
        Assert.Contains("model_not_found", missing.Message, StringComparison.Ordinal);

        ClientResultException wrong = await Assert.ThrowsAsync<ClientResultException>(() =>
            _chat.CompleteChatAsync(s_question, new ChatCompletionOptions { Temperature = 9 }));
        Assert.Equal(400, wrong.Status);
        Assert.Contains("'temperature' is 9; it must be between 0 and 2.", wrong.Message, StringComparison.Ordinal);

        ClientResultException streamed = await Assert.ThrowsAsync<ClientResultException>(async () =>
        {
            await foreach (StreamingChatCompletionUpdate _ in _chat.CompleteChatStreamingAsync(s_question, new ChatCompletionOptions { TopP = -1 }))
            {
            }
        });
        Assert.Equal(400, streamed.Status);
    }
}
