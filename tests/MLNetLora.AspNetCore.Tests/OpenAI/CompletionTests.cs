using System.Text.Json;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>POST /v1/completions.</summary>
public class CompletionTests(OpenAIServer server) : IClassFixture<OpenAIServer>
{
    private const string Prompt = "The capital of France is";

    [Fact]
    public async Task A_text_is_gone_on_with_as_it_is()
    {
        JsonElement answer = await server.AskAsync("completions", Body($""" "prompt": "{Prompt}", "max_tokens": 6 """));
        Assert.StartsWith("cmpl-", answer.GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.Equal("text_completion", answer.GetProperty("object").GetString());
        JsonElement choice = answer.GetProperty("choices").EnumerateArray().Single();
        Assert.Equal(Expected(6), choice.GetProperty("text").GetString());
        Assert.Equal("length", choice.GetProperty("finish_reason").GetString());
        Assert.Equal(JsonValueKind.Null, choice.GetProperty("logprobs").ValueKind);
        Assert.Equal(6, answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
    }

    [Fact]
    public async Task Without_a_limit_there_are_sixteen_tokens()
    {
        JsonElement answer = await server.AskAsync("completions", Body($""" "prompt": "{Prompt}", "ignore_eos": true """));
        Assert.Equal(16, answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
    }

    [Fact]
    public async Task Prompts_are_texts_or_tokens_one_or_many()
    {
        using TextGenerator generator = OpenAIServer.Generator();
        string ids = $"[{string.Join(',', generator.Tokenizer.Encode(Prompt))}]";
        string text = $"\"{Prompt}\"";
        (string, int)[] prompts = [(text, 1), ($"[{text}]", 1), (ids, 1), ($"[{ids}]", 1), ($"[{text}, {text}]", 2), ($"[{ids}, {text}]", 2)];
        foreach ((string prompt, int count) in prompts)
        {
            JsonElement answer = await server.AskAsync("completions", Body($""" "prompt": {prompt}, "max_tokens": 6 """));
            string?[] texts = [.. answer.GetProperty("choices").EnumerateArray().Select(choice => choice.GetProperty("text").GetString())];
            Assert.Equal(Enumerable.Repeat(Expected(6), count), texts);
            Assert.Equal(count * 6, answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
            Assert.Equal(count * ids.Split(',').Length, answer.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
        }
    }

    [Fact]
    public async Task Several_answers_to_several_prompts_are_numbered_by_prompt()
    {
        JsonElement answer = await server.AskAsync(
            "completions", Body($""" "prompt": ["{Prompt}", "One two"], "n": 2, "max_tokens": 6, "temperature": 1, "seed": 4, "echo": true """));
        JsonElement[] choices = [.. answer.GetProperty("choices").EnumerateArray()];
        Assert.Equal([0, 1, 2, 3], choices.Select(choice => choice.GetProperty("index").GetInt32()));
        string[] texts = [.. choices.Select(choice => choice.GetProperty("text").GetString()!)];
        Assert.All(texts[..2], text => Assert.StartsWith(Prompt, text, StringComparison.Ordinal));
        Assert.All(texts[2..], text => Assert.StartsWith("One two", text, StringComparison.Ordinal));
        Assert.NotEqual(texts[0], texts[1]);
    }

    [Fact]
    public async Task Log_probabilities_of_the_answer_are_those_of_the_generator()
    {
        JsonElement answer = await server.AskAsync("completions", Body($""" "prompt": "{Prompt}", "max_tokens": 6, "logprobs": 2 """));
        JsonElement logprobs = answer.GetProperty("choices")[0].GetProperty("logprobs");
        IReadOnlyList<GeneratedToken> expected = Generated(6, 2).Tokens!;
        Assert.Equal(expected.Select(token => token.Text), logprobs.GetProperty("tokens").EnumerateArray().Select(token => token.GetString()));
        Assert.Equal(expected.Select(token => token.Logprob), logprobs.GetProperty("token_logprobs").EnumerateArray().Select(value => value.GetSingle()));
        foreach ((JsonElement top, GeneratedToken token) in logprobs.GetProperty("top_logprobs").EnumerateArray().Zip(expected))
        {
            Assert.Equal(token.Top.Select(one => (one.Text, one.Logprob)), top.EnumerateObject().Select(one => (one.Name, one.Value.GetSingle())));
        }

        string text = answer.GetProperty("choices")[0].GetProperty("text").GetString()!;
        int[] offsets = [.. logprobs.GetProperty("text_offset").EnumerateArray().Select(offset => offset.GetInt32())];
        Assert.All(offsets.Zip(expected), pair => Assert.Equal(pair.Second.Text, text[pair.First..(pair.First + pair.Second.Text.Length)]));
    }

    [Fact]
    public async Task An_echoed_prompt_has_log_probabilities_as_evaluations_read_them()
    {
        // What language-model-evaluation-harness asks: the sum over the continuation, and whether each token of it was the likeliest.
        using TextGenerator generator = OpenAIServer.Generator();
        int[] context = generator.Tokenizer.Encode(Prompt);
        GeneratedText greedy = Generated(4, 1);
        int[] whole = [.. context, .. greedy.Tokens!.Select(token => token.Id)];
        JsonElement answer = await server.AskAsync(
            "completions",
            Body($""" "prompt": [[{string.Join(',', whole)}]], "max_tokens": 1, "logprobs": 1, "echo": true, "temperature": 0, "seed": 1234 """));
        JsonElement choice = answer.GetProperty("choices")[0];
        JsonElement logprobs = choice.GetProperty("logprobs");
        Assert.Equal(whole.Length + 1, logprobs.GetProperty("tokens").GetArrayLength());
        Assert.Equal(JsonValueKind.Null, logprobs.GetProperty("token_logprobs")[0].ValueKind);
        Assert.Equal(JsonValueKind.Null, logprobs.GetProperty("top_logprobs")[0].ValueKind);
        for (int i = 0; i < 4; i++)
        {
            float expected = greedy.Tokens![i].Logprob;
            Assert.Equal(expected, logprobs.GetProperty("token_logprobs")[context.Length + i].GetSingle(), 4);
            Assert.Equal(greedy.Tokens[i].Text, logprobs.GetProperty("top_logprobs")[context.Length + i].EnumerateObject().First().Name);
        }

        Assert.StartsWith(Prompt + greedy.Text, choice.GetProperty("text").GetString(), StringComparison.Ordinal);
        Assert.Equal(0, logprobs.GetProperty("text_offset")[0].GetInt32());
    }

    [Fact]
    public async Task A_prompt_can_be_looked_at_without_an_answer()
    {
        JsonElement answer = await server.AskAsync("completions", Body($""" "prompt": "{Prompt}", "max_tokens": 0, "logprobs": 0, "echo": true """));
        Assert.Equal(Prompt, answer.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.Equal(0, answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        JsonElement logprobs = answer.GetProperty("choices")[0].GetProperty("logprobs");
        Assert.Equal(Prompt, string.Concat(logprobs.GetProperty("tokens").EnumerateArray().Select(token => token.GetString())));
        (_, JsonElement error) = await server.RefusalAsync("completions", Body($""" "prompt": "{Prompt}", "max_tokens": 0 """));
        Assert.Equal("max_tokens", error.GetProperty("param").GetString());
    }

    [Theory]
    [InlineData(""" "echo": true, "logprobs": 1 """)]
    [InlineData(""" "n": 2, "temperature": 1, "seed": 2 """)]
    [InlineData(""" "temperature": 1, "seed": 2, "logprobs": 3 """)]
    [InlineData(""" "echo": true, "logprobs": 0, "max_tokens": 0 """)]
    [InlineData(""" "stop": "a" """)]
    public async Task A_stream_gives_the_same_piece_by_piece(string fields)
    {
        fields += fields.Contains("max_tokens", StringComparison.Ordinal) ? "" : """, "max_tokens": 8 """;
        JsonElement whole = await server.AskAsync("completions", Body($""" "prompt": "{Prompt}", {fields} """));
        using HttpResponseMessage response = await server.PostAsync(
            "completions", Body($$""" "prompt": "{{Prompt}}", {{fields}}, "stream": true, "stream_options": {"include_usage": true} """));
        string body = await response.Content.ReadAsStringAsync();
        Assert.EndsWith("data: [DONE]\n\n", body, StringComparison.Ordinal);
        JsonElement[] chunks = StreamTests.Chunks(body);
        Assert.Equal(whole.GetProperty("usage").ToString(), chunks[^1].GetProperty("usage").ToString());
        foreach (JsonElement expected in whole.GetProperty("choices").EnumerateArray())
        {
            JsonElement[] own = [.. chunks.SelectMany(chunk => chunk.GetProperty("choices").EnumerateArray())
                .Where(choice => choice.GetProperty("index").GetInt32() == expected.GetProperty("index").GetInt32())];
            Assert.Equal(expected.GetProperty("text").GetString(), string.Concat(own.Select(choice => choice.GetProperty("text").GetString())));
            Assert.Equal(expected.GetProperty("finish_reason").GetString(), own[^1].GetProperty("finish_reason").GetString());
            Assert.Equal(Logprobs([expected]), Logprobs(own));
        }
    }

    [Theory]
    [InlineData(""" "prompt": "" """, "prompt")]
    [InlineData(""" "prompt": [] """, "prompt")]
    [InlineData(""" "prompt": [[]] """, "prompt")]
    [InlineData(""" "prompt": ["a", ""] """, "prompt[1]")]
    [InlineData(""" "prompt": [99999999] """, "prompt")]
    [InlineData(""" "prompt": [-1] """, "prompt")]
    [InlineData(""" "prompt": [1, "a"] """, "prompt")]
    [InlineData(""" "prompt": {} """, "prompt")]
    [InlineData(""" "prompt": "a", "logprobs": 21 """, "logprobs")]
    [InlineData(""" "prompt": "a", "logprobs": true """, "logprobs")]
    [InlineData(""" "prompt": "a", "suffix": "b" """, "suffix")]
    [InlineData(""" "prompt": "a", "best_of": 2 """, "best_of")]
    [InlineData(""" "prompt": "a", "stop_token_ids": [99999999] """, "stop_token_ids")]
    [InlineData(""" "prompt": "a", "logit_bias": {"x": 1} """, "logit_bias")]
    [InlineData(""" "prompt": "a", "logit_bias": {"1": 101} """, "logit_bias.1")]
    [InlineData(""" "prompt": "a", "logit_bias": {"99999999": 1} """, "logit_bias")]
    [InlineData(""" "prompt": "a", "min_tokens": 17 """, "min_tokens")]
    [InlineData(""" "prompt": ["a", "b"], "n": 100 """, "prompt")]
    [InlineData(""" "prompt": "a", "messages": [] """, "messages")]
    public async Task What_cannot_be_is_named(string fields, string param)
    {
        (int status, JsonElement error) = await server.RefusalAsync("completions", Body(fields));
        Assert.Equal((400, param), (status, error.GetProperty("param").GetString()));
    }

    [Fact]
    public async Task Sampling_options_reach_the_generator()
    {
        const string start = $""" "prompt": "{Prompt}", "max_tokens": 8, "temperature": 0 """;
        string plain = await TextAsync(start);
        using TextGenerator generator = OpenAIServer.Generator();
        int first = Generated(1, 0).Tokens![0].Id;
        Assert.NotEqual(plain, await TextAsync(start + $$""", "logit_bias": {"{{first}}": -100} """));
        Assert.Equal("", await TextAsync(start + $""", "stop_token_ids": [{first}] """));
        Assert.NotEqual("", await TextAsync(start + $""", "stop_token_ids": [{first}], "min_tokens": 2 """));
        Assert.NotEqual(plain, await TextAsync(start + """, "repetition_penalty": 5 """));
        string hot = $""" "prompt": "{Prompt}", "max_tokens": 12, "temperature": 2, "seed": 11 """;
        string free = await TextAsync(hot);
        Assert.NotEqual(free, await TextAsync(hot + """, "min_p": 0.5 """));
        Assert.NotEqual(free, await TextAsync(hot + """, "presence_penalty": 2, "frequency_penalty": 2, "logit_bias": {"261": 8} """));
        Assert.NotEqual(free, await TextAsync(hot + """, "top_p": 0.1 """));
        string likeliest = await TextAsync($""" "prompt": "{Prompt}", "max_tokens": 12, "temperature": 0 """);
        Assert.Equal(likeliest, await TextAsync(hot + """, "top_k": 1 """));
        Assert.Equal(likeliest, await TextAsync(hot + """, "top_p": 0 """));
        Assert.Equal(likeliest, await TextAsync(hot + """, "min_p": 1 """));
    }

    private static string Body(string fields) => $$"""{"model": "{{OpenAIServer.Model}}", {{fields}}}""";

    private static string Logprobs(IEnumerable<JsonElement> choices)
    {
        JsonElement[] parts = [.. choices.Select(choice => choice.GetProperty("logprobs")).Where(part => part.ValueKind != JsonValueKind.Null)];
        string[] names = ["tokens", "token_logprobs", "top_logprobs", "text_offset"];
        return parts.Length == 0 ? "" : string.Join(
            '|', names.Select(name => string.Join(',', parts.SelectMany(part => part.GetProperty(name).EnumerateArray()))));
    }

    private async Task<string> TextAsync(string fields) =>
        (await server.AskAsync("completions", Body(fields))).GetProperty("choices")[0].GetProperty("text").GetString()!;

    private static string Expected(int tokens) => Generated(tokens, null).Text;

    private static GeneratedText Generated(int tokens, int? top)
    {
        using TextGenerator generator = OpenAIServer.Generator();
        return generator.Complete([Prompt], new GenerationOptions { MaximumNewTokens = tokens, TopLogprobs = top })[0];
    }
}
