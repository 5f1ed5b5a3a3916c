using System.Net.Http.Headers;
using System.Text.Json;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>Who finds again what is kept of prompts.</summary>
public class CacheSaltTests
{
    private static readonly string s_text = string.Concat(Enumerable.Repeat("a long text that all of them have ", 12));

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Holders_of_different_keys_share_prompts_only_where_the_options_say_so(bool perKey)
    {
        await using OpenAIServer server = await StartAsync(perKey);
        foreach (string path in (string[])["chat/completions", "completions"])
        {
            Assert.Equal(0, await CachedAsync(server, path, "one"));
            Assert.True(await CachedAsync(server, path, "one") > 0);
            Assert.Equal(perKey, await CachedAsync(server, path, "two") == 0);
            Assert.True(await CachedAsync(server, path, "two") > 0);
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData("one")]
    public async Task A_salt_keeps_prompts_apart(string? key)
    {
        await using OpenAIServer server = await StartAsync(perKey: true, key is not null);
        foreach (string path in (string[])["chat/completions", "completions"])
        {
            Assert.Equal(0, await CachedAsync(server, path, key));
            Assert.Equal(0, await CachedAsync(server, path, key, """, "cache_salt": "a" """));
            Assert.Equal(0, await CachedAsync(server, path, key, """, "cache_salt": "b" """));
            Assert.True(await CachedAsync(server, path, key, """, "cache_salt": "a" """) > 0);
            Assert.True(await CachedAsync(server, path, key) > 0);
        }
    }

    [Fact]
    public async Task A_prompt_that_was_scored_is_nobody_else_s_either()
    {
        await using OpenAIServer server = await StartAsync(perKey: true);
        await CachedAsync(server, "completions", "one", """, "echo": true, "logprobs": 1, "max_tokens": 0 """, tokens: "");
        Assert.Equal(0, await CachedAsync(server, "completions", "two"));
        Assert.True(await CachedAsync(server, "completions", "one") > 0);
    }

    [Fact]
    public async Task A_prompt_that_was_scored_is_not_kept_where_the_request_says_so()
    {
        await using OpenAIServer server = await StartAsync(perKey: true, keys: false);
        await CachedAsync(server, "completions", null, """, "echo": true, "logprobs": 1, "cache_prompt": false """);
        Assert.Equal(0, await CachedAsync(server, "completions", null));
    }

    [Theory]
    [InlineData("\"\"")]
    [InlineData("5")]
    [InlineData(null)]
    public async Task A_salt_that_is_none_is_refused(string? salt)
    {
        await using OpenAIServer server = await StartAsync(perKey: true, keys: false);
        salt ??= JsonSerializer.Serialize(new string('a', 1025));
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", ChatTests.Body($$""" "cache_salt": {{salt}} """));
        Assert.Equal((400, "cache_salt"), (status, error.GetProperty("param").GetString()));
    }

    private static Task<OpenAIServer> StartAsync(bool perKey, bool keys = true) => OpenAIServer.StartAsync(null, options =>
    {
        options.PrefixCachePerKey = perKey;
        if (keys)
        {
            options.ApiKeys.Add("one");
            options.ApiKeys.Add("two");
        }
    });

    /// <summary>Asks, and counts the tokens of the prompt that were known.</summary>
    private static async Task<int> CachedAsync(OpenAIServer server, string path, string? key, string fields = "", string tokens = ", \"max_tokens\": 2")
    {
        server.Http.DefaultRequestHeaders.Authorization = key is null ? null : new AuthenticationHeaderValue("Bearer", key);
        string asked = path == "completions" ? $"\"prompt\": \"{s_text}\"" : $$"""
            "messages": [{"role": "user", "content": "{{s_text}}"}]
            """;
        JsonElement answer = await server.AskAsync(path, $$"""{"model": "{{OpenAIServer.Model}}", {{asked}}{{tokens}}{{fields}}}""");
        return answer.GetProperty("usage").GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32();
    }
}
