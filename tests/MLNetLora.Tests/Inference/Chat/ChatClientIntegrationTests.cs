using System.Diagnostics;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.Caching.Distributed;
using Microsoft.Extensions.Logging;
using MLNetLora.Inference;
using MLNetLora.Text;
using AIMessage = Microsoft.Extensions.AI.ChatMessage;

namespace MLNetLora.Tests.Inference;

/// <summary>
/// What the integration tests of dotnet/extensions ask of a chat client, under their names: the wrappers of Microsoft.Extensions.AI over ours. A script answers
/// where a model would have to know something.
/// </summary>
public class ChatClientIntegrationTests
{
    [Fact]
    public async Task GetResponseAsync_MultipleRequestMessages()
    {
        ScriptedSource source = new(conversation => $"{conversation.Messages.Count} messages");
        using QwenChatClient client = new(source, "model");
        ChatResponse response = await client.GetResponseAsync(
            [new(ChatRole.User, "Pick a city"), new(ChatRole.Assistant, "Seattle"), new(ChatRole.User, "And another one")]);
        Assert.Equal("3 messages", response.Text);
        Assert.Equal(["user", "assistant", "user"], source.Requests.Single().Row.Conversation!.Messages.Select(message => message.Role));
    }

    [Fact]
    public async Task GetResponseAsync_WithEmptyMessage()
    {
        using QwenChatClient client = new(new ScriptedSource(_ => "3"), "model");
        ChatResponse response = await client.GetResponseAsync(
            [new(ChatRole.System, []), new(ChatRole.User, []), new(ChatRole.Assistant, []), new(ChatRole.User, "What is 1 + 2?")]);
        Assert.Equal("3", response.Text);
    }

    [Fact]
    public async Task GetStreamingResponseAsync_UsageDataAvailable()
    {
        using QwenChatClient client = new(new ScriptedSource(_ => "One small step."), "model");
        ChatOptions options = new()
        {
            AdditionalProperties = new() { ["stream_options"] = new Dictionary<string, object> { ["include_usage"] = true } },
        };
        List<ChatResponseUpdate> updates = await client.GetStreamingResponseAsync("Explain", options).ToListAsync();
        UsageContent usage = updates.SelectMany(update => update.Contents).OfType<UsageContent>().Single();
        Assert.Equal((7, 15, 22), (usage.Details.InputTokenCount, usage.Details.OutputTokenCount, usage.Details.TotalTokenCount));
    }

    [Fact]
    public async Task GetStreamingResponseAsync_AppendToHistory()
    {
        using QwenChatClient client = new(new ScriptedSource(_ => "One small step."), "model");
        List<AIMessage> history = [new(ChatRole.User, "Explain")];
        await history.AddMessagesAsync(client.GetStreamingResponseAsync(history));
        Assert.Equal((2, ChatRole.Assistant), (history.Count, history[1].Role));
        Assert.Equal("One small step.", Assert.IsType<TextContent>(Assert.Single(history[1].Contents)).Text);
        Assert.Equal("One small step.", (await client.GetResponseAsync(history)).Text);
    }

    [Fact]
    public async Task FunctionInvocation_AutomaticallyInvokeFunction_Parameterless()
    {
        ChatResponse response = await Invoke(
            """<tool_call>{"name": "GetSecretNumber", "arguments": {}}</tool_call>""", AIFunctionFactory.Create(() => 42, "GetSecretNumber"));
        Assert.Equal("The tool says 42", response.Text);
        Assert.Equal([ChatRole.Assistant, ChatRole.Tool, ChatRole.Assistant], response.Messages.Select(message => message.Role));
        Assert.Equal("A question of mine".Length * 2 + "42".Length, response.Usage!.InputTokenCount); // of both requests together
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task FunctionInvocation_AutomaticallyInvokeFunction_WithParameters(bool streaming)
    {
        ChatResponse response = await Invoke(
            """I compute.<tool_call>{"name": "SecretComputation", "arguments": {"a": 42, "b": 84}}</tool_call>""",
            AIFunctionFactory.Create((int a, int b) => a * b, "SecretComputation"),
            streaming);
        Assert.Equal("I compute.The tool says 3528", string.Concat(response.Messages.Where(message => message.Role == ChatRole.Assistant)));
    }

    [Fact]
    public async Task FunctionInvocation_OptionalParameter()
    {
        AIFunction tool = AIFunctionFactory.Create((string id = "default") => id, "GetSecretNumberById");
        Assert.Equal("The tool says foo", (await Invoke("""<tool_call>{"name": "GetSecretNumberById", "arguments": {"id": "foo"}}</tool_call>""", tool)).Text);
        Assert.Equal("The tool says default", (await Invoke("""<tool_call>{"name": "GetSecretNumberById"}</tool_call>""", tool)).Text);
    }

    [Fact]
    public async Task FunctionInvocation_NestedParameters() => Assert.Equal("The tool says 61", (await Invoke(
        """<tool_call>{"name": "GetSecretNumberByPerson", "arguments": {"person": {"Name": "John", "Age": 19}}}</tool_call>""",
        AIFunctionFactory.Create((PersonRecord person) => person.Name is "John" ? 42 + person.Age : -1, "GetSecretNumberByPerson"))).Text);

    [Fact]
    public async Task FunctionInvocation_ArrayParameter()
    {
        string[] cart = [];
        await Invoke(
            """
            <tool_call>
            <function=AddItemsToShoppingCart>
            <parameter=items>
            ["bacon", "lettuce", "tomatoes"]
            </parameter>
            <parameter=shopperId>
            Peter
            </parameter>
            </function>
            </tool_call>
            """,
            AIFunctionFactory.Create((string[] items, string shopperId) => { cart = [.. items, shopperId]; }, "AddItemsToShoppingCart"));
        Assert.Equal(["bacon", "lettuce", "tomatoes", "Peter"], cart);
    }

    [Fact]
    public async Task FunctionInvocation_SupportsMultipleParallelRequests()
    {
        ChatResponse response = await Invoke(
            """
            <tool_call>
            {"name": "GetPersonAge", "arguments": {"personName": "Elsa"}}
            </tool_call>
            <tool_call>
            {"name": "GetPersonAge", "arguments": {"personName": "Anna"}}
            </tool_call>
            """,
            AIFunctionFactory.Create((string personName) => personName == "Elsa" ? 21 : 18, "GetPersonAge"));
        Assert.Equal("The tool says 21 and 18", response.Text);
        Assert.Equal(ChatFinishReason.Stop, response.FinishReason);
    }

    [Fact]
    public async Task A_broken_call_is_run_by_nobody()
    {
        int runs = 0;
        ChatResponse response = await Invoke(
            """<tool_call>{"name": "Delete", "arguments": {"path": "x}}</tool_call>""",
            AIFunctionFactory.Create((string path = "everything") => { runs++; }, "Delete"));
        Assert.Equal((0, """<tool_call>{"name": "Delete", "arguments": {"path": "x}}</tool_call>"""), (runs, response.Text));
    }

    [Fact]
    public async Task Caching_SamePromptResultsInCacheHit()
    {
        ScriptedSource source = new(conversation => $"Answer {conversation.Messages[^1].Content}");
        using IChatClient client = new QwenChatClient(source, "model").AsBuilder().UseDistributedCache(new MemoryCache()).Build();
        ChatResponse first = await client.GetResponseAsync("Pick a number");
        ChatResponse second = await client.GetResponseAsync("Pick a number");
        Assert.Equal((first.Text, first.ResponseId, 1), (second.Text, second.ResponseId, source.Requests.Count));
        string streamed = string.Concat(await client.GetStreamingResponseAsync("Pick another").ToListAsync());
        Assert.Equal(streamed, string.Concat(await client.GetStreamingResponseAsync("Pick another").ToListAsync()));
        Assert.Equal(("Answer Pick another", 2), (streamed, source.Requests.Count));
        await client.GetResponseAsync("Pick a number!");
        Assert.Equal(3, source.Requests.Count);
    }

    [Theory]
    [InlineData(true, 2, 1)]
    [InlineData(false, 2, 2)]
    public async Task Caching_BeforeAndAfterFunctionInvocation(bool before, int requests, int calls)
    {
        int called = 0;
        ScriptedSource source = new(Script("""<tool_call>{"name": "GetTemperature"}</tool_call>"""));
        AIFunction tool = AIFunctionFactory.Create(() => { called++; return "58 degrees"; }, "GetTemperature");
        ChatClientBuilder builder = new QwenChatClient(source, "model").AsBuilder().ConfigureOptions(options => options.Tools = [tool]);
        MemoryCache cache = new();
        builder = before ? builder.UseDistributedCache(cache).UseFunctionInvocation() : builder.UseFunctionInvocation().UseDistributedCache(cache);
        using IChatClient client = builder.Build();
        ChatResponse first = await client.GetResponseAsync("What is the temperature?");
        ChatResponse second = await client.GetResponseAsync("What is the temperature?");
        Assert.Equal(("The tool says 58 degrees", first.Text), (first.Text, second.Text));
        Assert.Equal((requests, calls), (source.Requests.Count, called));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Logging_LogsFunctionCalls(bool streaming)
    {
        LogList log = new();
        ScriptedSource source = new(Script("""<tool_call>{"name": "GetSecretNumber"}</tool_call>"""));
        using IChatClient client = new QwenChatClient(source, "model").AsBuilder().UseFunctionInvocation().UseLogging(log).Build();
        ChatOptions options = new() { Tools = [AIFunctionFactory.Create(() => 42, "GetSecretNumber")] };
        if (streaming)
        {
            await client.GetStreamingResponseAsync("What is the current secret number?", options).ToListAsync();
        }
        else
        {
            await client.GetResponseAsync("What is the current secret number?", options);
        }

        Assert.Contains(log.Lines, line => line.Contains("What is the current secret number?", StringComparison.Ordinal));
        Assert.Contains(log.Lines, line => line.Contains("\"name\": \"GetSecretNumber\"", StringComparison.Ordinal));
        Assert.Contains(log.Lines, line => line.Contains("\"result\": 42", StringComparison.Ordinal));
    }

    [Fact]
    public async Task OpenTelemetry_CanEmitTracesAndMetrics()
    {
        string name = Guid.NewGuid().ToString();
        List<Activity> activities = [];
        using ActivityListener listener = new()
        {
            ShouldListenTo = source => source.Name == name,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = activities.Add,
        };
        ActivitySource.AddActivityListener(listener);
        using IChatClient client = new QwenChatClient(new ScriptedSource(_ => "A whale."), "model").AsBuilder().UseOpenTelemetry(sourceName: name).Build();
        await client.GetResponseAsync("What is the biggest animal?");
        Activity activity = Assert.Single(activities);
        Assert.Equal(("chat model", "mlnetlora"), (activity.DisplayName, activity.GetTagItem("gen_ai.provider.name")));
        Assert.Equal((27, 8), ((int)activity.GetTagItem("gen_ai.usage.input_tokens")!, (int)activity.GetTagItem("gen_ai.usage.output_tokens")!));
        Assert.Equal("model", activity.GetTagItem("gen_ai.response.model"));
        Assert.NotNull(activity.GetTagItem("gen_ai.response.id"));
    }

    [Fact]
    public async Task AvailableTools_SchemasAreAccepted()
    {
        using QwenChatClient client = new(new ScriptedSource(_ => "The Eiffel tower."), "model");
        ChatOptions options = new()
        {
            Tools =
            [
                AIFunctionFactory.Create((int? i) => i, "a"), AIFunctionFactory.Create((DateTimeOffset? d) => d, "b"),
                AIFunctionFactory.Create((List<int> list, PersonRecord? person) => list, "c"), AIFunctionFactory.Create((Uri uri, Guid guid) => uri, "d"),
                AIFunctionFactory.Create((string? p1 = "str", int? p2 = 42, StringComparison? p3 = StringComparison.Ordinal, char? p4 = 'x') => p1, "e"),
            ],
        };
        Assert.Equal("The Eiffel tower.", (await client.GetResponseAsync("Which tower?", options)).Text);
    }

    /// <summary>Calls first, and then says what came back.</summary>
    private static Func<Conversation, string> Script(string call) => conversation => conversation.Messages[^1].Role == "tool"
        ? $"The tool says {string.Join(" and ", conversation.Messages.Where(message => message.Role == "tool").Select(message => message.Content))}"
        : call;

    private static async Task<ChatResponse> Invoke(string call, AIFunction tool, bool streaming = false)
    {
        using IChatClient client = new QwenChatClient(new ScriptedSource(Script(call)), "model").AsBuilder().UseFunctionInvocation().Build();
        ChatOptions options = new() { Tools = [tool] };
        return streaming
            ? await client.GetStreamingResponseAsync("A question of mine", options).ToChatResponseAsync()
            : await client.GetResponseAsync("A question of mine", options);
    }

    private sealed record PersonRecord(string Name, int Age = 42);

    private sealed class MemoryCache : IDistributedCache
    {
        private readonly Dictionary<string, byte[]> _values = [];

        public byte[]? Get(string key) => _values.GetValueOrDefault(key);

        public Task<byte[]?> GetAsync(string key, CancellationToken token = default) => Task.FromResult(Get(key));

        public void Refresh(string key)
        {
        }

        public Task RefreshAsync(string key, CancellationToken token = default) => Task.CompletedTask;

        public void Remove(string key) => _values.Remove(key);

        public Task RemoveAsync(string key, CancellationToken token = default) => Task.CompletedTask;

        public void Set(string key, byte[] value, DistributedCacheEntryOptions options) => _values[key] = value;

        public Task SetAsync(string key, byte[] value, DistributedCacheEntryOptions options, CancellationToken token = default)
        {
            Set(key, value, options);
            return Task.CompletedTask;
        }
    }

    private sealed class LogList : ILoggerFactory, ILogger
    {
        public List<string> Lines { get; } = [];

        public void AddProvider(ILoggerProvider provider)
        {
        }

        public ILogger CreateLogger(string categoryName) => this;

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Lines.Add(formatter(state, exception));

        public void Dispose()
        {
        }
    }
}
