using Microsoft.Extensions.AI;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using AIMessage = Microsoft.Extensions.AI.ChatMessage;
using ChatMessage = MLNetLora.Text.ChatMessage;

namespace MLNetLora.Tests.Inference;

/// <summary>The chat client over the nano checkpoint, and over scripts where its weights cannot say what is needed.</summary>
public sealed class QwenChatClientTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_response_says_what_the_generator_says_and_what_it_cost()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        GeneratedText expected = generator.Reply(
            [new Conversation([ChatMessage.System("Be short."), ChatMessage.User("Who are you?")])], new GenerationOptions { MaximumNewTokens = 12 })[0];

        DateTimeOffset before = DateTimeOffset.UtcNow;
        ChatResponse response = await client.GetResponseAsync("Who are you?", new ChatOptions { Instructions = "Be short.", MaxOutputTokens = 12 });

        Assert.Equal(expected.Text, response.Text);
        Assert.Equal(ChatRole.Assistant, Assert.Single(response.Messages).Role);
        Assert.Equal(expected.Reason == FinishReason.Length ? ChatFinishReason.Length : ChatFinishReason.Stop, response.FinishReason);
        Assert.Equal((expected.PromptTokens, expected.NewTokens), (response.Usage!.InputTokenCount, response.Usage.OutputTokenCount));
        Assert.Equal(expected.PromptTokens + expected.NewTokens, response.Usage.TotalTokenCount);
        Assert.Equal("qwen3-nano", response.ModelId);
        Assert.StartsWith("chatcmpl-", response.ResponseId, StringComparison.Ordinal);
        Assert.Equal(response.ResponseId, response.Messages[0].MessageId);
        Assert.InRange(response.CreatedAt!.Value, before, DateTimeOffset.UtcNow);
        Assert.Null(response.ConversationId);
        Assert.Equal(expected, Assert.IsType<GeneratedText>(response.RawRepresentation) with { CachedPromptTokens = expected.CachedPromptTokens });
    }

    [Fact]
    public async Task Log_probabilities_and_what_was_known_and_thought_come_with_a_response()
    {
        using TextGenerator generator = new(Checkpoint.Open(NanoWith("qwen3_6.jinja")), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        ChatOptions options = new() { MaxOutputTokens = 5, AdditionalProperties = new() { ["top_logprobs"] = 2 } };
        string question = string.Concat(Enumerable.Repeat("and on ", 60));
        await client.GetResponseAsync(question, options);
        ChatResponse response = await client.GetResponseAsync(question, options);
        GeneratedText answer = Assert.IsType<GeneratedText>(response.RawRepresentation);
        Assert.Equal(5, answer.Tokens!.Count);
        Assert.All(answer.Tokens, token => Assert.Equal(2, token.Top.Count));
        Assert.Equal(5, response.Usage!.ReasoningTokenCount); // the template opens the thinking
        Assert.InRange(response.Usage.CachedInputTokenCount!.Value, 1, response.Usage.InputTokenCount!.Value);
    }

    [Fact]
    public async Task Options_reach_the_generator()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = new(generator, "a", new GenerationOptions { MaximumNewTokens = 6 });
        Assert.Equal(6, (await client.GetResponseAsync("公司在哪里？")).Usage!.OutputTokenCount);

        ChatOptions sampled = new() { Temperature = 5, TopK = 0, TopP = 1, Seed = 3 };
        string first = (await client.GetResponseAsync("公司在哪里？", sampled)).Text;
        Assert.Equal(first, (await client.GetResponseAsync("公司在哪里？", sampled)).Text);
        sampled.Seed = 4;
        Assert.NotEqual(first, (await client.GetResponseAsync("公司在哪里？", sampled)).Text);

        string greedy = (await client.GetResponseAsync("公司在哪里？")).Text;
        string stop = greedy[2..4];
        ChatResponse stopped = await client.GetResponseAsync("公司在哪里？", new ChatOptions { StopSequences = [stop] });
        Assert.Equal((greedy[..greedy.IndexOf(stop, StringComparison.Ordinal)], ChatFinishReason.Stop), (stopped.Text, stopped.FinishReason));
    }

    [Fact]
    public async Task Updates_make_up_the_response_and_each_says_whose_it_is()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = generator.AsChatClient("mine");
        ChatOptions options = new() { MaxOutputTokens = 20 };
        ChatResponse whole = await client.GetResponseAsync("公司在哪里？", options);
        List<ChatResponseUpdate> updates = await client.GetStreamingResponseAsync("公司在哪里？", options).ToListAsync();

        Assert.True(updates.Count > 3);
        Assert.All(updates, update =>
        {
            Assert.Equal(("mine", updates[0].ResponseId, updates[0].MessageId), (update.ModelId, update.ResponseId, update.MessageId));
            Assert.Equal(updates[0].CreatedAt, update.CreatedAt);
            Assert.Equal(ChatRole.Assistant, update.Role);
            Assert.Equal(update == updates[^1], update.FinishReason is not null);
            Assert.Equal(update == updates[^1] ? typeof(GeneratedText) : typeof(GeneratedChunk), update.RawRepresentation?.GetType());
        });
        Assert.NotNull(updates[0].ResponseId);
        Assert.NotEqual(whole.ResponseId, updates[0].ResponseId);
        Assert.Single(updates.SelectMany(update => update.Contents).OfType<UsageContent>());
        ChatResponse joined = updates.ToChatResponse();
        Assert.Equal((whole.Text, whole.FinishReason, whole.ModelId), (joined.Text, joined.FinishReason, joined.ModelId));
        Assert.Equal(whole.Usage!.TotalTokenCount, joined.Usage!.TotalTokenCount);
    }

    [Fact]
    public async Task Many_requests_at_once_get_each_its_own_answer()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        string[] questions = ["Who are you?", "公司在哪里？", "Say yes."];
        ChatOptions options = new() { MaxOutputTokens = 10 };
        List<string> alone = [];
        foreach (string question in questions)
        {
            alone.Add((await client.GetResponseAsync(question, options)).Text);
        }

        ChatResponse[] together = await Task.WhenAll(Enumerable.Range(0, 12).Select(i => Task.Run(() => client.GetResponseAsync(questions[i % 3], options))));
        Assert.Equal(Enumerable.Range(0, 12).Select(i => alone[i % 3]), together.Select(response => response.Text));
        Assert.Equal(12, together.Select(response => response.ResponseId).Distinct().Count());
    }

    [Fact]
    public async Task Thinking_is_turned_off_and_on_where_the_template_knows_how()
    {
        string folder = NanoWith("qwen3.jinja");
        using TextGenerator generator = new(Checkpoint.Open(folder), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        QwenTokenizer tokenizer = QwenTokenizer.Load(folder);
        int block = tokenizer.Encode("assistant\n<think>\n\n</think>\n\n").Length - tokenizer.Encode("assistant\n").Length;
        long thinking = await PromptTokens(client, ReasoningEffort.High);
        Assert.Equal((thinking, thinking, thinking + block),
            (await PromptTokens(client, null), await PromptTokens(client, ReasoningEffort.Low), await PromptTokens(client, ReasoningEffort.None)));

        // Opens the thinking itself, unless it is told not to.
        using TextGenerator opening = new(Checkpoint.Open(NanoWith("qwen3_6.jinja")), threads: 1);
        using QwenChatClient other = opening.AsChatClient();
        Assert.IsType<TextReasoningContent>((await Ask(other, ReasoningEffort.High)).Messages[0].Contents[0]);
        Assert.IsType<TextContent>((await Ask(other, ReasoningEffort.None)).Messages[0].Contents[0]);

        static async Task<long> PromptTokens(IChatClient client, ReasoningEffort? effort) => (await Ask(client, effort)).Usage!.InputTokenCount!.Value;

        static Task<ChatResponse> Ask(IChatClient client, ReasoningEffort? effort) =>
            client.GetResponseAsync("Hi", new ChatOptions { MaxOutputTokens = 4, Reasoning = new ReasoningOptions { Effort = effort } });
    }

    [Fact]
    public async Task Thinking_stands_apart_from_the_answer()
    {
        using QwenChatClient client = new(new ScriptedSource(_ => "Hm, let me see.</think>Yes."), "model");
        ChatResponse response = await client.GetResponseAsync("Hi");
        Assert.Equal("Yes.", response.Text);
        Assert.Equal("Hm, let me see.", Assert.Single(response.Messages[0].Contents.OfType<TextReasoningContent>()).Text);

        ChatOptions silent = new() { Reasoning = new ReasoningOptions { Output = ReasoningOutput.None } };
        Assert.IsType<TextContent>(Assert.Single((await client.GetResponseAsync("Hi", silent)).Messages[0].Contents));
    }

    [Fact]
    public async Task A_call_cut_off_by_the_length_is_no_call()
    {
        ScriptedSource source = new(_ => "Wait.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}") { Reason = FinishReason.Length };
        using QwenChatClient client = new(source, "model");
        ChatResponse response = await client.GetResponseAsync("Hi", new ChatOptions { Tools = [AIFunctionFactory.Create(() => 1, "f")] });
        Assert.Equal(("Wait.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}", ChatFinishReason.Length), (response.Text, response.FinishReason));
        Assert.DoesNotContain(response.Messages[0].Contents, content => content is FunctionCallContent);
    }

    [Fact]
    public async Task Text_that_spells_a_call_is_text_where_no_tools_are_given()
    {
        using QwenChatClient client = new(new ScriptedSource(_ => "<tool_call>\n{\"name\": \"f\"}\n</tool_call>"), "model");
        ChatResponse response = await client.GetResponseAsync("Hi");
        Assert.Equal(("<tool_call>\n{\"name\": \"f\"}\n</tool_call>", ChatFinishReason.Stop), (response.Text, response.FinishReason));
    }

    [Fact]
    public async Task Arguments_are_not_changed_and_read_once()
    {
        ScriptedSource source = new(_ => "<tool_call>{\"name\": \"f\"}</tool_call>");
        using QwenChatClient client = new(source, "model");
        ChatOptions options = new()
        {
            Tools = [AIFunctionFactory.Create(() => 1, "f")],
            StopSequences = ["x"],
            AllowMultipleToolCalls = false,
            Instructions = "Be kind.",
        };
        List<AIMessage> messages = [new(ChatRole.System, "a"), new(ChatRole.User, "b")];
        int read = 0;
        await client.GetResponseAsync(Once(), options);
        Assert.Equal((2, "a", "b"), (read, messages[0].Text, messages[1].Text));
        Assert.Equal(["x"], options.StopSequences);
        Assert.Equal("Be kind.", options.Instructions);
        Assert.Equal(["STOP", "x"], source.Requests.Single().Options.StopStrings);
        Assert.True(source.Requests.Single().Options.EndsWithCall);
        Assert.Equal(["STOP"], source.Defaults.StopStrings);

        IEnumerable<AIMessage> Once()
        {
            foreach (AIMessage message in messages)
            {
                read++;
                yield return message;
            }
        }
    }

    [Fact]
    public async Task What_is_wrong_is_said_as_it_is_elsewhere()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        await Assert.ThrowsAsync<ArgumentNullException>(() => client.GetResponseAsync((IEnumerable<AIMessage>)null!));
        Assert.Throws<ArgumentNullException>(() => client.GetStreamingResponseAsync((IEnumerable<AIMessage>)null!));
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync([]));
        await Assert.ThrowsAsync<ArgumentException>(() => client.GetResponseAsync([null!]));
        await Assert.ThrowsAsync<PromptException>(() => client.GetResponseAsync(string.Concat(Enumerable.Repeat("and on and ", 400))));
        await Assert.ThrowsAsync<OptionException>(() => client.GetResponseAsync("Hi", new ChatOptions { TopP = 2 }));
        await Assert.ThrowsAsync<NotSupportedException>(
            () => client.GetResponseAsync("Hi", new ChatOptions { Tools = [AIFunctionFactory.Create(() => 1, "f")] }));
        Assert.Throws<OptionException>(() => new QwenChatClient(generator, defaults: new GenerationOptions { TopK = -1 }));
        Assert.Throws<ArgumentNullException>(() => new QwenChatClient(null!));
        Assert.Throws<ArgumentException>(() => new QwenChatClient(generator, " "));
    }

    [Fact]
    public async Task A_request_ends_with_its_token()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        using QwenChatClient client = generator.AsChatClient();
        ChatOptions endless = new() { MaxOutputTokens = 480, Temperature = 5, TopK = 0, TopP = 1, Seed = 1 };
        using CancellationTokenSource source = new();
        int read = 0;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (ChatResponseUpdate _ in client.GetStreamingResponseAsync("Hi", endless, source.Token))
            {
                read++;
                await source.CancelAsync();
            }
        });
        Assert.Equal(1, read);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.GetResponseAsync("Hi", endless, source.Token));
    }

    [Fact]
    public async Task Services_are_those_of_the_contract()
    {
        ScriptedSource source = new(_ => "Yes.");
        QwenChatClient client = new(source, "model");
        ChatClientMetadata metadata = Assert.IsType<ChatClientMetadata>(client.GetService(typeof(ChatClientMetadata)));
        Assert.Equal(("mlnetlora", null, "model"), (metadata.ProviderName, metadata.ProviderUri, metadata.DefaultModelId));
        Assert.Same(client, client.GetService(typeof(QwenChatClient)));
        Assert.Same(client, client.GetService(typeof(IChatClient)));
        Assert.Same(client, client.GetService(typeof(object)));
        Assert.Equal("the generator", client.GetService(typeof(string)));
        Assert.Null(client.GetService(typeof(IChatClient), "key"));
        Assert.Null(client.GetService(typeof(ChatClientMetadata), "key"));
        Assert.Null(client.GetService(typeof(DelegatingChatClient)));
        Assert.Throws<ArgumentNullException>(() => client.GetService(null!));

        client.Dispose();
        client.Dispose();
        Assert.True(source.IsDisposed);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => client.GetResponseAsync("Hi"));
    }

    [Fact]
    public async Task The_generator_is_disposed_by_who_owns_it()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        QwenChatClient client = generator.AsChatClient();
        Assert.Same(generator, client.GetService<TextGenerator>());
        client.Dispose();
        Assert.NotEqual(0, generator.Generate([new("Hi")], new GenerationOptions { MaximumNewTokens = 1 })[0].NewTokens);

        QwenChatClient owner = new(generator, ownsGenerator: true);
        using QwenChatClient other = generator.AsChatClient();
        owner.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => other.GetResponseAsync("Hi"));
    }

    private string NanoWith(string template)
    {
        string folder = Directory.CreateDirectory(_folder.File(template)).FullName;
        foreach (string file in Directory.EnumerateFiles(Repository.Nano))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        }

        File.Copy(Path.Combine(Repository.Root, "tests", "golden", "templates", template), Path.Combine(folder, "chat_template.jinja"), overwrite: true);
        return folder;
    }
}
