using System.Globalization;
using System.Text;
using System.Text.Json;
using Xunit.Abstractions;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>Bodies that something has happened to are refused with a reason, or answered with as many whole answers as they ask for.</summary>
public class MutationTests(OpenAIServer server, ITestOutputHelper output) : IClassFixture<OpenAIServer>
{
    private const int Few = 300;
    private const int AtOnce = 8;

    /// <summary>How many there are, where more are wanted than a short test has; and the first seed.</summary>
    private static readonly int s_count = Setting("MLNETLORA_MUTATIONS", Few);
    private static readonly int s_first = Setting("MLNETLORA_MUTATIONS_SEED", 1);

    private static readonly (string, string)[] s_requests =
    [
        ("chat/completions", Chat("""
            "max_tokens": 3, "n": 2, "temperature": 0.8, "seed": 7, "stop": ["x", "y"], "stream": true, "stream_options": {"include_usage": true}, "top_p": 0.9,
            "logprobs": true, "top_logprobs": 2, "logit_bias": {"300": 1.5}, "user": "u", "presence_penalty": 0.5, "frequency_penalty": -0.5
            """)),
        ("chat/completions", Chat("""
            "max_completion_tokens": 4, "min_tokens": 1, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "stop_token_ids": [5], "ignore_eos": false,
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true,
              "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}}
            """)),
        ("chat/completions", $$"""
            {"model": "{{OpenAIServer.Thinker}}", "max_tokens": 3, "reasoning_effort": "none", "parallel_tool_calls": false, "tool_choice": "auto",
             "tools": [{"type": "function", "function": {"name": "weather", "description": "d",
              "parameters": {"type": "object", "properties": {"city": {"type": "string"} } } } }],
             "messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]},
              {"role": "assistant", "content": null, "reasoning_content": "r",
               "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"} }]},
              {"role": "tool", "tool_call_id": "1", "content": "rain"}]}
            """),
        ("chat/completions", $$"""
            {"model": "{{OpenAIServer.Thinker}}", "max_tokens": 3, "chat_template_kwargs": {"enable_thinking": true}, "continue_final_message": true,
             "add_generation_prompt": false, "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Well"}]}
            """),
        ("completions", $$"""{"model": "{{OpenAIServer.Model}}", "prompt": ["one", "two"], "max_tokens": 2, "echo": true, "logprobs": 2, "n": 2}"""),
        ("completions", $$"""{"model": "{{OpenAIServer.Model}}", "prompt": [[5, 6, 7], [8]], "max_tokens": 2, "stream": true, "suffix": null, "best_of": 1}"""),
    ];

    [Fact]
    public async Task Every_body_is_refused_with_a_reason_or_answered()
    {
        int[] counts = new int[600];
        await Parallel.ForEachAsync(
            Enumerable.Range(s_first, s_count),
            new ParallelOptions { MaxDegreeOfParallelism = AtOnce },
            async (seed, _) => Interlocked.Increment(ref counts[await TryAsync(seed)]));
        foreach ((int status, int count) in counts.Index().Where(status => status.Item > 0))
        {
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{status}: {count}"));
        }

        Assert.True(counts[200] > s_count / 20, "some are answered");
        Assert.True(counts[400] > s_count / 5, "some are refused");
        await server.NobodyIsLeftAsync();
    }

    private async Task<int> TryAsync(int seed)
    {
        (string path, byte[] body) = MutatedBodies.Make(seed, s_requests);
        using HttpResponseMessage response = await server.PostAsync(path, Shortened(body));
        string text = await response.Content.ReadAsStringAsync();
        int status = (int)response.StatusCode;
        string what = string.Create(CultureInfo.InvariantCulture, $"seed {seed}: {status} {text}\nfor {path}: {Encoding.UTF8.GetString(body)}");
        Assert.True(status is 200 or (>= 400 and < 500), what);
        if (status != 200)
        {
            JsonElement error = JsonElement.Parse(text).GetProperty("error");
            Assert.True(error.GetProperty("message").GetString()!.Length > 10, what);
            Assert.True(error.GetProperty("type").GetString() == "invalid_request_error", what);
            return status;
        }

        JsonElement request = JsonElement.Parse(body);
        bool isStream = request.TryGetProperty("stream", out JsonElement stream) && stream.ValueKind == JsonValueKind.True;
        int choices = request.TryGetProperty("n", out JsonElement n) && n.ValueKind == JsonValueKind.Number ? n.GetInt32() : 1;
        if (path == "completions")
        {
            JsonElement prompt = request.GetProperty("prompt");
            choices *= prompt.ValueKind == JsonValueKind.Array && prompt[0].ValueKind != JsonValueKind.Number ? prompt.GetArrayLength() : 1;
        }

        JsonElement[] parts = isStream ? StreamTests.Chunks(text) : [JsonElement.Parse(text)];
        Assert.True(!isStream || text.EndsWith("data: [DONE]\n\n", StringComparison.Ordinal), what);
        JsonElement[] ended = [.. parts.SelectMany(part => part.GetProperty("choices").EnumerateArray())
            .Where(choice => choice.GetProperty("finish_reason").ValueKind == JsonValueKind.String)];
        Assert.True(ended.Select(choice => choice.GetProperty("index").GetInt32()).Order().SequenceEqual(Enumerable.Range(0, choices)), what);
        return status;
    }

    /// <summary>A body that has lost its limit would be answered until the context is full, which takes a while and shows nothing.</summary>
    private static byte[] Shortened(byte[] body)
    {
        try
        {
            JsonElement request = JsonElement.Parse(body);
            string? limit = request.EnumerateObject().Select(property => property.Name).FirstOrDefault(name => name is "max_tokens" or "max_completion_tokens");
            return limit is null ? [.. "{\"max_tokens\":2,"u8, .. body.AsSpan(Array.IndexOf(body, (byte)'{') + 1)] : body;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            return body;
        }
    }

    private static string Chat(string fields) => ChatTests.Body(fields);

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), CultureInfo.InvariantCulture, out int value) ? value : otherwise;
}
