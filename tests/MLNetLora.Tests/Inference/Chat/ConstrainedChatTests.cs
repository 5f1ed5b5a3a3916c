using System.ComponentModel.DataAnnotations;
using System.Text.Json;
using Microsoft.Extensions.AI;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>What the response format and the tool mode hold the nano checkpoint to, which knows nothing of JSON or tools.</summary>
public sealed class ConstrainedChatTests : IDisposable
{
    private static readonly ReasoningOptions s_noThinking = new() { Effort = ReasoningEffort.None };

    private readonly TemporaryFolder _folder = new();

    private enum Job
    {
        Wombat,
        PopStar,
        Programmer,
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task GetResponseAsync_StructuredOutput()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        ChatOptions options = new() { MaxOutputTokens = 100 };
        Person person = (await client.GetResponseAsync<Person>("Who?", options)).Result;
        Assert.InRange(person.Age, 1, 99);
        Assert.InRange((await client.GetResponseAsync<Person[]>("Who?", new ChatOptions { MaxOutputTokens = 400 })).Result.Length, 0, 20);
        Assert.True(Enum.IsDefined((await client.GetResponseAsync<Job>("Which job?", options)).Result));
        Assert.True((await client.GetResponseAsync<bool>("Yes or no?", options)).TryGetResult(out _));
        ChatResponse any = await client.GetResponseAsync("Some JSON?", new ChatOptions { MaxOutputTokens = 60, ResponseFormat = ChatResponseFormat.Json });
        Assert.StartsWith("{", any.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_schema_that_cannot_be_held_to_is_said()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        JsonElement schema = JsonDocument.Parse("""{"type": "nothing"}""").RootElement;
        await Assert.ThrowsAsync<ConstraintException>(
            () => client.GetResponseAsync("Hi", new ChatOptions { ResponseFormat = ChatResponseFormat.ForJsonSchema(schema) }));
    }

    [Theory]
    [InlineData("qwen3.jinja")]
    [InlineData("qwen3_6.jinja")]
    public async Task FunctionInvocation_RequireAny(string template)
    {
        using TextGenerator generator = new(Checkpoint.Open(NanoWith(template)), threads: 1);
        using IChatClient client = generator.AsChatClient().AsBuilder().UseFunctionInvocation().Build();
        int calls = 0;
        ChatResponse response = await client.GetResponseAsync("Are birds real?", new ChatOptions
        {
            MaxOutputTokens = 120,
            Reasoning = s_noThinking,
            AllowMultipleToolCalls = false,
            ToolMode = ChatToolMode.RequireAny,
            Tools = [AIFunctionFactory.Create(() => ++calls, "GetSecretNumber"), AIFunctionFactory.Create((bool on, Job job) => ++calls, "SetJob")],
        });
        Assert.True(calls == 1, response.Messages[0].Text);
        Assert.Single(response.Messages[0].Contents.OfType<FunctionCallContent>());
        Assert.DoesNotContain(response.Messages[0].Contents, content => content is TextContent);
    }

    [Theory]
    [InlineData("qwen3.jinja", null)]
    [InlineData("qwen3.jinja", false)]
    [InlineData("qwen3_6.jinja", null)]
    [InlineData("qwen3_6.jinja", false)]
    public async Task FunctionInvocation_RequireSpecific(string template, bool? several)
    {
        using TextGenerator generator = new(Checkpoint.Open(NanoWith(template)), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        ChatResponse response = await client.GetResponseAsync("What is the current secret number?", new ChatOptions
        {
            MaxOutputTokens = 200,
            Reasoning = s_noThinking,
            AllowMultipleToolCalls = several,
            ToolMode = ChatToolMode.RequireSpecific("ShieldsUp"),
            Tools = [AIFunctionFactory.Create(() => 123, "GetSecretNumber"), AIFunctionFactory.Create((Job who, bool high) => true, "ShieldsUp")],
        });
        FunctionCallContent[] calls = [.. response.Messages[0].Contents.OfType<FunctionCallContent>()];
        Assert.NotEmpty(calls);
        Assert.All(calls, call =>
        {
            Assert.Equal("ShieldsUp", call.Name);
            Assert.True(Enum.TryParse<Job>(((JsonElement)call.Arguments!["who"]!).GetString(), out _));
            Assert.True(((JsonElement)call.Arguments["high"]!).ValueKind is JsonValueKind.True or JsonValueKind.False);
        });
        Assert.True(several is null || calls.Length == 1);
    }

    [Theory]
    [InlineData("qwen3.jinja")]
    [InlineData("qwen3_6.jinja")]
    public async Task GetResponseAsync_StructuredOutput_WithFunctions(string template)
    {
        using TextGenerator generator = new(Checkpoint.Open(NanoWith(template)), threads: 1);
        using IChatClient client = generator.AsChatClient();
        AIFunction tool = AIFunctionFactory.Create(() => 1, "GetPersonById");
        bool isJson = false;
        for (int seed = 0; seed < 6 && !isJson; seed++)
        {
            ChatOptions options = new() { MaxOutputTokens = 120, Reasoning = s_noThinking, Tools = [tool], Temperature = 1, Seed = seed };
            ChatResponse<Person> response = await client.GetResponseAsync<Person>("Who is 123?", options);
            isJson = response.TryGetResult(out _);
            Assert.True(isJson || response.FinishReason == ChatFinishReason.ToolCalls || response.FinishReason == ChatFinishReason.Length, response.Text);
        }

        Assert.True(isJson);
    }

    [Theory]
    [InlineData("qwen3.jinja", "<tool_call>\n{\"name\": \"roll\", \"arguments\": {\"dice\": ")]
    [InlineData("qwen3_6.jinja", "<tool_call>\n<function=roll>\n<parameter=dice>\n")]
    public void Calls_that_an_option_asks_for_have_the_form_of_the_template(string template, string start)
    {
        JsonElement tool = JsonDocument.Parse(
            """
            {"name": "roll", "parameters": {"type": "object", "properties": {"dice": {"enum": [1, 2]}}, "required": ["dice"], "additionalProperties": false}}
            """).RootElement;
        using TextGenerator generator = new(Checkpoint.Open(NanoWith(template)), threads: 1, prompt: new PromptSettings(EnableThinking: false));
        GenerationOptions options = new() { MaximumNewTokens = 100, Constraint = OutputConstraint.ToolCalls([tool], several: false) };
        Assert.StartsWith(start, generator.Generate([new InstructionRow("Roll.")], options)[0].Text, StringComparison.Ordinal);
        Assert.StartsWith(start, generator.Complete(["Roll."], options)[0].Text, StringComparison.Ordinal);
    }

    private string NanoWith(string template) => NanoCheckpoint.WithTemplate(_folder.File(template), template);

    private sealed record Person([property: Range(1, 99)] int Age, Job Job, bool IsKnown);
}
