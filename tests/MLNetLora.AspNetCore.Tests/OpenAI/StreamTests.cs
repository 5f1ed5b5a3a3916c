using System.Text;
using System.Text.Json;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>The bytes of streams.</summary>
public class StreamTests(OpenAIServer server) : IClassFixture<OpenAIServer>
{
    [Fact]
    public async Task A_stream_gives_the_same_answer_piece_by_piece()
    {
        string fields = """ "max_tokens": 10, "temperature": 0 """;
        JsonElement whole = await server.AskAsync("chat/completions", ChatTests.Body(fields));
        using HttpResponseMessage response = await server.PostAsync("chat/completions", ChatTests.Body(fields + """, "stream": true """));

        Assert.Equal("text/event-stream", response.Content.Headers.ContentType?.MediaType);
        Assert.Equal("no-cache", response.Headers.CacheControl?.ToString());
        string body = await response.Content.ReadAsStringAsync();
        Assert.EndsWith("}\n\ndata: [DONE]\n\n", body, StringComparison.Ordinal);
        JsonElement[] chunks = Chunks(body);
        Assert.All(chunks, chunk => Assert.Equal("chat.completion.chunk", chunk.GetProperty("object").GetString()));
        Assert.Single(chunks.Select(chunk => chunk.GetProperty("id").GetString()).Distinct());
        Assert.All(chunks, chunk => Assert.False(chunk.TryGetProperty("usage", out _)));
        Assert.Equal("""{"role":"assistant","content":""}""", chunks[0].GetProperty("choices")[0].GetProperty("delta").GetRawText());
        Assert.Equal("length", chunks[^1].GetProperty("choices")[0].GetProperty("finish_reason").GetString());
        Assert.All(chunks[..^1], chunk => Assert.Equal(JsonValueKind.Null, chunk.GetProperty("choices")[0].GetProperty("finish_reason").ValueKind));
        Assert.True(chunks.Length > 6, "more than one piece");
        Assert.Equal(ChatTests.Content(whole), Text(chunks, 0));
    }

    [Fact]
    public async Task Usage_comes_last_where_it_is_asked_for()
    {
        string body = await StreamAsync(""" "max_tokens": 5, "stream_options": {"include_usage": true} """);
        JsonElement last = Chunks(body)[^1];
        Assert.Empty(last.GetProperty("choices").EnumerateArray());
        Assert.Equal(5, last.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
    }

    [Fact]
    public async Task Several_answers_stream_by_their_index()
    {
        const string fields = """ "max_tokens": 8, "temperature": 1.2, "seed": 3, "n": 3 """;
        JsonElement whole = await server.AskAsync("chat/completions", ChatTests.Body(fields));
        JsonElement[] chunks = Chunks(await StreamAsync(fields));
        for (int i = 0; i < 3; i++)
        {
            JsonElement expected = whole.GetProperty("choices")[i];
            Assert.Equal(expected.GetProperty("message").GetProperty("content").GetString(), Text(chunks, i));
            JsonElement[] own = [.. chunks.Select(chunk => chunk.GetProperty("choices")[0]).Where(choice => choice.GetProperty("index").GetInt32() == i)];
            Assert.Equal("assistant", own[0].GetProperty("delta").GetProperty("role").GetString());
            Assert.Equal(expected.GetProperty("finish_reason").GetString(), own[^1].GetProperty("finish_reason").GetString());
        }
    }

    [Fact]
    public async Task An_error_before_the_first_piece_has_its_status()
    {
        string question = $$"""{"role": "user", "content": "{{string.Concat(Enumerable.Repeat("one two three ", 300))}}"}""";
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", ChatTests.Body(""" "stream": true """, question));
        Assert.Equal(400, status);
        Assert.Equal("context_length_exceeded", error.GetProperty("code").GetString());
        Assert.Equal("messages", error.GetProperty("param").GetString());
    }

    [Fact]
    public async Task A_client_that_goes_away_ends_its_answer()
    {
        using (HttpResponseMessage response = await server.PostAsync(
            "chat/completions", ChatTests.Body(""" "stream": true, "temperature": 2, "seed": 1 """), HttpCompletionOption.ResponseHeadersRead))
        {
            Stream stream = await response.Content.ReadAsStreamAsync();
            Assert.True(await stream.ReadAsync(new byte[16]) > 0);
        }

        await server.NobodyIsLeftAsync(); // it would go on for hundreds of tokens
    }

    internal static JsonElement[] Chunks(string body) => [.. body.Split("\n\n", StringSplitOptions.RemoveEmptyEntries)
        .Where(item => !item.StartsWith(':') && item != "data: [DONE]")
        .Select(item => JsonElement.Parse(item["data: ".Length..]))];

    private async Task<string> StreamAsync(string fields)
    {
        using HttpResponseMessage response = await server.PostAsync("chat/completions", ChatTests.Body(fields + """, "stream": true """));
        string body = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, body);
        return body;
    }

    private static string Text(JsonElement[] chunks, int index)
    {
        StringBuilder text = new();
        foreach (JsonElement choice in chunks.SelectMany(chunk => chunk.GetProperty("choices").EnumerateArray()))
        {
            if (choice.GetProperty("index").GetInt32() == index && choice.GetProperty("delta").TryGetProperty("content", out JsonElement content))
            {
                text.Append(content.GetString());
            }
        }

        return text.ToString();
    }
}
