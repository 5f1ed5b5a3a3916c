using System.Net;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using MLNetLora.AspNetCore.OpenAI;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>What is refused, and how.</summary>
public class ErrorTests(OpenAIServer server) : IClassFixture<OpenAIServer>
{
    private const string Question = """[{"role": "user", "content": "Hi"}]""";

    [Theory]
    [InlineData("""{"messages": [{"role": "user", "content": "Hi"}]}""", "model", "missing_required_parameter")]
    [InlineData("""{"model": "m"}""", "messages", "missing_required_parameter")]
    [InlineData("""{"model": "m", "messages": []}""", "messages", "invalid_value")]
    [InlineData("""{"model": "m", "messages": "Hi"}""", "messages", "invalid_type")]
    [InlineData("""{"model": 1, "messages": []}""", "model", "invalid_type")]
    [InlineData("""{"model": "m", "messages": [null]}""", "messages[0]", "missing_required_parameter")]
    [InlineData("""{"model": "m", "messages": [{"content": "Hi"}]}""", "messages[0].role", "missing_required_parameter")]
    [InlineData("""{"model": "m", "messages": [{"role": "pirate", "content": "Hi"}]}""", "messages[0].role", "invalid_value")]
    [InlineData("""{"model": "m", "messages": [{"role": "user"}]}""", "messages[0].content", "missing_required_parameter")]
    [InlineData("""{"model": "m", "messages": [{"role": "user", "content": 5}]}""", "messages[0].content", "invalid_type")]
    [InlineData("""{"model": "m", "messages": [{"role": "user", "content": ["Hi"]}]}""", "messages[0].content", "invalid_type")]
    [InlineData(
        """{"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}""", "messages[0].content[0].text", "missing_required_parameter")]
    [InlineData(
        """{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}""", "messages[0].content[0].text", "invalid_type")]
    [InlineData(
        """{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": ""}, {"text": "\ud800"}]}]}""",
        "messages[0].content[1].text",
        "invalid_type")]
    [InlineData(
        """{"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "type": "text"}]}]}""",
        "messages[0].content[0].type",
        "duplicate_parameter")]
    [InlineData("""{"model": "m", "messages": [{"role": "user", "content": "a", "mood": 1}]}""", "messages[0].mood", "unknown_parameter")]
    [InlineData("""{"model": "m", "messages": [{"role": "user", "content": "a", "tool_call_id": "1"}]}""", "messages[0].tool_call_id", "invalid_value")]
    [InlineData(
        """{"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}""",
        "messages[0].content[0].type",
        "unsupported_parameter")]
    public async Task Wrong_messages_are_named(string body, string param, string code) => await RefusedAsync(body, param, code);

    [Theory]
    [InlineData("reasoning_effort", "\"high\"", "reasoning_effort")]
    [InlineData("chat_template_kwargs", "{\"enable_thinking\": true}", "chat_template_kwargs.enable_thinking")]
    [InlineData("tools", "[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]", "tools")]
    public async Task What_a_model_cannot_do_is_named(string field, string value, string param) =>
        await RefusedAsync($$"""{"model": "{{OpenAIServer.Model}}", "messages": {{Question}}, "{{field}}": {{value}}}""", param, "unsupported_parameter");

    [Theory]
    [InlineData("temperature", "2.5")]
    [InlineData("temperature", "-0.1")]
    [InlineData("temperature", "1e999")]
    [InlineData("top_p", "1.01")]
    [InlineData("top_k", "-2")]
    [InlineData("repetition_penalty", "0")]
    [InlineData("n", "0")]
    [InlineData("n", "129")]
    [InlineData("max_tokens", "0")]
    [InlineData("max_completion_tokens", "-1")]
    [InlineData("stop", "\"\"")]
    [InlineData("stream_options", "{}")]
    [InlineData("top_logprobs", "2")]
    [InlineData("min_p", "1.5")]
    [InlineData("presence_penalty", "-2.1")]
    [InlineData("frequency_penalty", "3")]
    [InlineData("reasoning_effort", "\"huge\"")]
    [InlineData("tool_choice", "\"maybe\"")]
    [InlineData("tool_choice", "\"required\"")]
    [InlineData("tool_choice", "{\"type\": \"function\"}")]
    public async Task Values_out_of_range_are_named(string field, string value) =>
        await RefusedAsync($$"""{"model": "m", "messages": {{Question}}, "{{field}}": {{value}}}""", field, "invalid_value");

    [Theory]
    [InlineData("temperature", "\"warm\"")]
    [InlineData("n", "1.5")]
    [InlineData("n", "99999999999")]
    [InlineData("max_tokens", "\"8\"")]
    [InlineData("stream", "1")]
    [InlineData("stop", "[1]")]
    [InlineData("stop", "{}")]
    [InlineData("seed", "9223372036854775808")]
    [InlineData("response_format", "[]")]
    public async Task Values_of_another_type_are_named(string field, string value) =>
        await RefusedAsync($$"""{"model": "m", "messages": {{Question}}, "{{field}}": {{value}}}""", field, "invalid_type");

    [Fact]
    public async Task Half_of_a_character_is_said_to_be_that()
    {
        (int status, JsonElement error) = await server.RefusalAsync(
            "chat/completions", """{"model": "m", "messages": [{"role": "user", "content": "a\ud83d"}]}""");
        Assert.Equal((400, "messages[0].content"), (status, error.GetProperty("param").GetString()));
        Assert.Contains("half of a surrogate pair", error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("store", "true")]
    [InlineData("modalities", "[\"audio\"]")]
    [InlineData("functions", "[{}]")]
    [InlineData("prediction", "{}")]
    [InlineData("service_tier", "\"flex\"")]
    [InlineData("add_generation_prompt", "false")]
    public async Task What_has_a_meaning_and_is_not_served_is_named(string field, string value) =>
        await RefusedAsync($$"""{"model": "m", "messages": {{Question}}, "{{field}}": {{value}}}""", field, "unsupported_parameter");

    [Fact]
    public async Task A_field_that_nobody_knows_is_named() =>
        await RefusedAsync($$"""{"model": "m", "messages": {{Question}}, "max_token": 5}""", "max_token", "unknown_parameter");

    [Theory]
    [InlineData("""{"type": "xml"}""", "response_format.type", "invalid_value")]
    [InlineData("{}", "response_format.type", "missing_required_parameter")]
    [InlineData("""{"type": "json_schema"}""", "response_format.json_schema", "missing_required_parameter")]
    [InlineData("""{"type": "json_schema", "json_schema": {"name": "a"}}""", "response_format.json_schema.schema", "missing_required_parameter")]
    [InlineData("""{"type": "json_schema", "json_schema": {"schema": {}}}""", "response_format.json_schema.name", "missing_required_parameter")]
    [InlineData(
        """{"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "colour"}}}""", "response_format.json_schema.schema", "invalid_value")]
    [InlineData("""{"type": "json_object", "json_schema": {"name": "a"}}""", "response_format.json_schema", "invalid_value")]
    public async Task Wrong_formats_are_named(string format, string param, string code) =>
        await RefusedAsync($$"""{"model": "m", "messages": {{Question}}, "response_format": {{format}}}""", param, code);

    [Theory]
    [InlineData("""{"type": "code"}""", "tools[0].type", "unsupported_parameter")]
    [InlineData("""{"type": "function"}""", "tools[0].function", "missing_required_parameter")]
    [InlineData("""{"type": "function", "function": {}}""", "tools[0].function.name", "missing_required_parameter")]
    [InlineData("""{"type": "function", "function": {"name": "a b"}}""", "tools[0].function.name", "invalid_value")]
    [InlineData("""{"type": "function", "function": {"name": "a", "parameters": []}}""", "tools[0].function.parameters", "invalid_value")]
    [InlineData(
        """{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "a"}}""", "tools[1].function.name", "invalid_value")]
    public async Task Wrong_tools_are_named(string tool, string param, string code) =>
        await RefusedAsync($$"""{"model": "m", "messages": {{Question}}, "tools": [{{tool}}]}""", param, code);

    [Fact]
    public async Task A_conversation_that_ends_with_the_assistant_asks_nothing() => await RefusedAsync(
        """{"model": "m", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}""", "messages[1]", "invalid_value");

    [Fact]
    public void A_constraint_that_shows_only_while_it_answers_to_be_too_much_is_the_request_s_fault()
    {
        ServingError told = ApiError.Of(new ConstraintException("It is ambiguous in too many ways."), "messages")!;
        Assert.Equal((400, "invalid_value", "It is ambiguous in too many ways."), (told.Status, told.Code, told.Message));
    }

    [Theory]
    [InlineData("chat/completions", "messages", "The prompt has ")]
    [InlineData("completions", "prompt", "'prompt' has ")]
    public async Task A_prompt_that_is_too_long_is_called_by_its_field(string path, string field, string begins)
    {
        string question = string.Concat(Enumerable.Repeat("a long question ", 600));
        string prompt = field == "prompt" ? $"\"{question}\"" : $$"""[{"role": "user", "content": "{{question}}"}]""";
        (int status, JsonElement error) = await server.RefusalAsync(path, $$"""{"model": "{{OpenAIServer.Model}}", "{{field}}": {{prompt}}}""");
        Assert.Equal((400, field), (status, error.GetProperty("param").GetString()));
        Assert.StartsWith(begins, error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_body_that_is_in_memory_is_not_copied()
    {
        using MemoryStream body = new();
        body.Write("{}"u8);
        body.Position = 0;
        DefaultHttpContext context = new();
        context.Request.ContentType = "application/json";
        context.Request.Body = body;
        ReadOnlyMemory<byte> read = await RequestBody.ReadAsync(context);
        Assert.True(MemoryMarshal.TryGetArray(read, out ArraySegment<byte> bytes));
        Assert.Same(body.GetBuffer(), bytes.Array);
        Assert.Equal("{}", Encoding.UTF8.GetString(read.Span));
    }

    [Fact]
    public async Task A_field_twice_is_named() =>
        await RefusedAsync($$"""{"model": "m", "messages": {{Question}}, "n": 1, "n": 2}""", "n", "duplicate_parameter");

    [Theory]
    [InlineData("")]
    [InlineData("{")]
    [InlineData("{\"model\": \"m\"} x")]
    [InlineData("{\"model\": \"m\",}")]
    [InlineData("{'model': 'm'}")]
    public async Task What_is_not_JSON_is_said(string body)
    {
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", body);
        Assert.Equal((400, "invalid_json"), (status, error.GetProperty("code").GetString()));
        Assert.Contains("line 1", error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("null")]
    [InlineData("[]")]
    [InlineData("5")]
    public async Task What_is_no_object_is_said(string body)
    {
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", body);
        Assert.Equal((400, "invalid_type"), (status, error.GetProperty("code").GetString()));
    }

    [Fact]
    public async Task JSON_that_is_nested_too_deeply_is_refused()
    {
        string deep = new string('[', 5000) + new string(']', 5000);
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", $$"""{"model": "m", "metadata": {{deep}}}""");
        Assert.Equal((400, "invalid_json"), (status, error.GetProperty("code").GetString()));
    }

    [Fact]
    public async Task Bytes_that_are_no_text_are_refused()
    {
        using HttpResponseMessage response = await server.PostAsync("chat/completions", [.. "{\"model\": \""u8, 0xff, .. "\"}"u8]);
        Assert.Equal(HttpStatusCode.BadRequest, response.StatusCode);
    }

    [Fact]
    public async Task A_model_that_is_not_served_is_not_found()
    {
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", $$"""{"model": "gpt-4", "messages": {{Question}}}""");
        Assert.Equal((404, "model_not_found"), (status, error.GetProperty("code").GetString()));
        Assert.Equal("model", error.GetProperty("param").GetString());
        Assert.Contains("gpt-4", error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Other_types_than_JSON_are_refused()
    {
        using StringContent content = new("{}", Encoding.UTF8, "text/plain"); // what a browser sends to any server unasked
        using HttpResponseMessage response = await server.Http.PostAsync(new Uri("chat/completions", UriKind.Relative), content);
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, response.StatusCode);
        JsonElement error = JsonElement.Parse(await response.Content.ReadAsStringAsync()).GetProperty("error");
        Assert.Equal("unsupported_content_type", error.GetProperty("code").GetString());
    }

    [Theory]
    [InlineData("POST", "embeddings")]
    [InlineData("GET", "chat/completions")]
    [InlineData("DELETE", "models/qwen3-nano")]
    public async Task Other_paths_are_errors_in_the_same_form(string method, string path)
    {
        using HttpRequestMessage request = new(new HttpMethod(method), new Uri(path, UriKind.Relative));
        using HttpResponseMessage response = await server.Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
        Assert.Equal("unknown_url", JsonElement.Parse(await response.Content.ReadAsStringAsync()).GetProperty("error").GetProperty("code").GetString());
    }

    [Fact]
    public async Task Unknown_fields_are_passed_over_where_the_operator_says_so()
    {
        await using OpenAIServer lenient = await OpenAIServer.StartAsync(options => options.IgnoreUnknownFields = true);
        JsonElement answer = await lenient.AskAsync("chat/completions", ChatTests.Body(""" "max_tokens": 2, "chat_id": "7" """));
        Assert.Equal(2, answer.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        (_, JsonElement error) = await lenient.RefusalAsync("chat/completions", ChatTests.Body(""" "max_tokens": 2, "store": true """));
        Assert.Equal("store", error.GetProperty("param").GetString());
    }

    [Fact]
    public async Task The_operator_limits_answers_and_bodies()
    {
        await using OpenAIServer small = await OpenAIServer.StartAsync(options => options.MaximumChoices = 2, serving => serving.MaximumRequestBytes = 2000);
        (_, JsonElement error) = await small.RefusalAsync("chat/completions", ChatTests.Body(""" "n": 3 """));
        Assert.Equal("n", error.GetProperty("param").GetString());
        (int status, _) = await small.RefusalAsync("chat/completions", ChatTests.Body($""" "user": "{new string('x', 2000)}" """));
        Assert.Equal(413, status);
    }

    private async Task RefusedAsync(string body, string param, string code)
    {
        (int status, JsonElement error) = await server.RefusalAsync("chat/completions", body);
        Assert.Equal((400, param, code), (status, error.GetProperty("param").GetString(), error.GetProperty("code").GetString()));
        Assert.Equal("invalid_request_error", error.GetProperty("type").GetString());
        Assert.Contains(param, error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }
}
