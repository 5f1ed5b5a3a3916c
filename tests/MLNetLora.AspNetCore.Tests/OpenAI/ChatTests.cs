using System.Text.Json;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>POST /v1/chat/completions as raw JSON.</summary>
public class ChatTests(OpenAIServer server) : IClassFixture<OpenAIServer>
{
    private const string Question = """{"role": "user", "content": "Name three colours."}""";

    [Fact]
    public async Task An_answer_has_every_field_that_clients_read()
    {
        JsonElement answer = await server.AskAsync("chat/completions", Body(""" "max_tokens": 6, "temperature": 0 """));

        Assert.StartsWith("chatcmpl-", answer.GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.Equal("chat.completion", answer.GetProperty("object").GetString());
        Assert.True(answer.GetProperty("created").GetInt64() > 1_700_000_000);
        Assert.Equal(OpenAIServer.Model, answer.GetProperty("model").GetString());
        Assert.StartsWith("fp_", answer.GetProperty("system_fingerprint").GetString(), StringComparison.Ordinal);
        JsonElement choice = answer.GetProperty("choices").EnumerateArray().Single();
        Assert.Equal(0, choice.GetProperty("index").GetInt32());
        Assert.Equal("length", choice.GetProperty("finish_reason").GetString());
        Assert.Equal(JsonValueKind.Null, choice.GetProperty("logprobs").ValueKind);
        Assert.Equal("assistant", choice.GetProperty("message").GetProperty("role").GetString());
        Assert.Equal(Expected(6), choice.GetProperty("message").GetProperty("content").GetString());
        JsonElement usage = answer.GetProperty("usage");
        Assert.Equal(6, usage.GetProperty("completion_tokens").GetInt32());
        Assert.Equal(usage.GetProperty("prompt_tokens").GetInt32() + 6, usage.GetProperty("total_tokens").GetInt32());
    }

    [Fact]
    public async Task Content_in_parts_and_a_developer_are_read_as_text_and_a_system_message()
    {
        const string plain = """{"role": "system", "content": "Be brief. Always."}, """ + Question;
        const string parts = """
            {"role": "developer", "content": [{"type": "text", "text": "Be brief. "}, {"type": "text", "text": "Always."}]},
            {"role": "user", "content": [{"type": "text", "text": "Name three colours."}]}
            """;

        JsonElement expected = await server.AskAsync("chat/completions", Body(""" "max_tokens": 8 """, plain));
        JsonElement actual = await server.AskAsync("chat/completions", Body(""" "max_completion_tokens": 8 """, parts));

        Assert.Equal(Content(expected), Content(actual));
        Assert.Equal(expected.GetProperty("usage").ToString(), actual.GetProperty("usage").ToString());
    }

    [Fact]
    public async Task Several_answers_have_several_seeds_and_the_same_ones_again()
    {
        string body = Body(""" "max_tokens": 12, "temperature": 1.5, "seed": 7, "n": 3 """);
        JsonElement first = await server.AskAsync("chat/completions", body);
        JsonElement second = await server.AskAsync("chat/completions", body);

        string?[] answers = [.. first.GetProperty("choices").EnumerateArray()
            .Select(choice => choice.GetProperty("message").GetProperty("content").GetString())];
        Assert.Equal(3, answers.Distinct().Count());
        Assert.Equal(first.GetProperty("choices").ToString(), second.GetProperty("choices").ToString());
        Assert.Equal(36, first.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        Assert.True(first.GetProperty("usage").GetProperty("prompt_tokens").GetInt32() < 36, "the prompt counts once");
    }

    [Fact]
    public async Task A_stop_string_ends_the_answer()
    {
        string whole = Content(await server.AskAsync("chat/completions", Body(""" "max_tokens": 12 """)))!;
        string stop = whole[5..8];
        JsonElement cut = await server.AskAsync("chat/completions", Body($""" "max_tokens": 12, "stop": [{JsonSerializer.Serialize(stop)}, "§"] """));

        Assert.Equal(whole[..whole.IndexOf(stop, StringComparison.Ordinal)], Content(cut));
        Assert.Equal("stop", cut.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
    }

    [Fact]
    public async Task Fields_that_change_no_answer_are_taken()
    {
        const string fields = """
            "max_tokens": 4, "user": "u1", "metadata": {"a": "b"}, "store": false, "service_tier": "auto", "n": null, "stop": null, "tools": null,
            "logit_bias": null, "prompt_cache_key": "k", "cache_prompt": true, "stream": false, "response_format": {"type": "text"}
            """;
        Assert.Equal(Expected(4), Content(await server.AskAsync("chat/completions", Body(fields))));
    }

    [Fact]
    public async Task Thinking_stands_apart_from_the_answer()
    {
        JsonElement thinks = await server.AskAsync("chat/completions", Body(""" "max_tokens": 8 """, model: OpenAIServer.Thinker));
        Assert.Equal("", Content(thinks));
        string thought = thinks.GetProperty("choices")[0].GetProperty("message").GetProperty("reasoning_content").GetString()!;
        Assert.NotEmpty(thought);
        using HttpResponseMessage response = await server.PostAsync(
            "chat/completions", Body(""" "max_tokens": 8, "stream": true, "reasoning_effort": "high" """, model: OpenAIServer.Thinker));
        JsonElement[] chunks = StreamTests.Chunks(await response.Content.ReadAsStringAsync());
        Assert.Equal(thought, string.Concat(chunks.Select(chunk => chunk.GetProperty("choices")[0].GetProperty("delta"))
            .Select(delta => delta.TryGetProperty("reasoning_content", out JsonElement piece) ? piece.GetString() : "")));
    }

    [Theory]
    [InlineData(""" "reasoning_effort": "none" """)]
    [InlineData(""" "chat_template_kwargs": {"enable_thinking": false} """)]
    [InlineData(""" "reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": false} """)]
    public async Task Thinking_is_left_out_where_it_is_not_wanted(string fields)
    {
        JsonElement answer = await server.AskAsync("chat/completions", Body(""" "max_tokens": 8, """ + fields, model: OpenAIServer.Thinker));
        Assert.NotEqual("", Content(answer));
        Assert.False(answer.GetProperty("choices")[0].GetProperty("message").TryGetProperty("reasoning_content", out _));
        Assert.NotEqual("", Content(await server.AskAsync("chat/completions", Body(""" "max_tokens": 8, """ + fields)))); // a model that never thinks
    }

    [Fact]
    public async Task The_assistants_message_is_gone_on_with()
    {
        const string fields = """ "max_tokens": 8, "temperature": 0 """;
        JsonElement whole = await server.AskAsync("chat/completions", Body(fields));
        string begun = Content(whole)![..2]; // the end of a token
        string messages = Question + $$""", {"role": "assistant", "content": {{JsonSerializer.Serialize(begun)}}}""";
        JsonElement rest = await server.AskAsync(
            "chat/completions", Body(fields + """, "continue_final_message": true, "add_generation_prompt": false """, messages));
        Assert.StartsWith(Content(whole)![2..], Content(rest), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_beginning_that_was_read_before_is_counted_as_cached()
    {
        string question = $$"""{"role": "user", "content": "{{string.Concat(Enumerable.Repeat("a long text that all of them have ", 12))}}"}""";
        JsonElement first = await server.AskAsync("chat/completions", Body(""" "max_tokens": 2 """, question));
        JsonElement second = await server.AskAsync("chat/completions", Body(""" "max_tokens": 2 """, question));
        Assert.Equal(0, Cached(first));
        Assert.InRange(Cached(second), 64, second.GetProperty("usage").GetProperty("prompt_tokens").GetInt32() - 1);
        Assert.Equal(Content(first), Content(second));
        JsonElement anew = await server.AskAsync("chat/completions", Body(""" "max_tokens": 2, "cache_prompt": false """, question));
        Assert.Equal((0, Content(first)), (Cached(anew), Content(anew)));
        string other = question.Replace("a long", "another", StringComparison.Ordinal);
        await server.AskAsync("chat/completions", Body(""" "max_tokens": 2, "cache_prompt": false """, other));
        Assert.Equal(0, Cached(await server.AskAsync("chat/completions", Body(""" "max_tokens": 2 """, other)))); // nothing was kept

        static int Cached(JsonElement answer) => answer.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32();
    }

    internal static string Body(string fields, string messages = Question, string model = OpenAIServer.Model) =>
        $$"""{"model": "{{model}}", "messages": [{{messages}}], {{fields}}}""";

    internal static string? Content(JsonElement answer) => answer.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString();

    private static string Expected(int tokens)
    {
        using Inference.TextGenerator generator = OpenAIServer.Generator();
        return generator.Reply(
            [new Text.Conversation([Text.ChatMessage.User("Name three colours.")])], new Inference.GenerationOptions { MaximumNewTokens = tokens })[0].Text;
    }
}
