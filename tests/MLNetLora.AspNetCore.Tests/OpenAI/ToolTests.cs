using System.Text;
using System.Text.Json;
using MLNetLora.AspNetCore.OpenAI;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.OpenAI;

/// <summary>What tools and response_format hold answers to, with both forms of calls; the nano checkpoint knows nothing of either.</summary>
public sealed class ToolTests : IClassFixture<OpenAIServer>, IDisposable
{
    private const string Json = "json-calls";
    private const string Tags = "tag-calls";
    private const string Paint = """
        {"type": "function", "function": {"name": "paint", "strict": true, "parameters": {"type": "object", "properties":
         {"colour": {"enum": ["red", "green"]}, "coats": {"type": "integer", "minimum": 1, "maximum": 3}}, "required": ["colour", "coats"],
         "additionalProperties": false}}}
        """;

    private const string Sand = """
        {"type": "function", "function": {"name": "sand", "parameters": {"type": "object", "properties": {"hard": {"type": "boolean"}}, "required": ["hard"],
         "additionalProperties": false}}}
        """;

    private const string Format = """
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"left": {"type": "integer", "minimum": 0,
         "maximum": 9}}, "required": ["left"], "additionalProperties": false}}}
        """;

    private readonly OpenAIServer _server;
    private readonly TemporaryFolder _folder = new();

    public ToolTests(OpenAIServer server)
    {
        _server = server;
        Serve(Json, "qwen3.jinja");
        Serve(Tags, "qwen3_6.jinja");
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(Json, "\"required\"", "paint|sand")]
    [InlineData(Tags, "\"required\"", "paint|sand")]
    [InlineData(Json, """{"type": "function", "function": {"name": "paint"}}""", "paint")]
    [InlineData(Tags, """{"type": "function", "function": {"name": "paint"}}""", "paint")]
    public async Task Calls_that_are_required_are_calls(string model, string choice, string names)
    {
        JsonElement answer = await AskAsync(model, $$""" "tools": [{{Paint}}, {{Sand}}], "tool_choice": {{choice}}, "parallel_tool_calls": false """);
        JsonElement call = Assert.Single(Calls(answer)).GetProperty("function");
        Assert.Contains(call.GetProperty("name").GetString(), names.Split('|'));
        Check(call);
        Assert.Equal(JsonValueKind.Null, answer.GetProperty("message").GetProperty("content").ValueKind);
    }

    [Theory]
    [InlineData(Json)]
    [InlineData(Tags)]
    public async Task With_a_format_an_answer_is_of_that_format_or_calls(string model)
    {
        HashSet<string> reasons = [];
        for (int seed = 0; seed < 20 && reasons.Count < 2; seed++)
        {
            JsonElement answer = await AskAsync(model, $$"""
                "tools": [{{Paint}}, {{Sand}}], "response_format": {{Format}}, "parallel_tool_calls": false, "temperature": 2, "seed": {{seed}}
                """);
            string reason = answer.GetProperty("finish_reason").GetString()!;
            reasons.Add(reason);
            if (reason == "tool_calls")
            {
                Check(Calls(answer)[0].GetProperty("function"));
            }
            else
            {
                JsonElement value = JsonElement.Parse(answer.GetProperty("message").GetProperty("content").GetString()!);
                Assert.InRange(value.GetProperty("left").GetInt32(), 0, 9);
            }
        }

        Assert.Equal(["stop", "tool_calls"], reasons.Order());
    }

    [Theory]
    [InlineData(Json)]
    [InlineData(Tags)]
    public async Task Strict_functions_are_held_to_their_schemas_where_they_are_called(string model)
    {
        JsonElement answer = await AskAsync(model, $$""" "tools": [{{Paint}}] """, tokens: 8);
        Assert.NotEqual("", answer.GetProperty("message").GetProperty("content").GetString());
        string body = ChatTests.Body($$""" "tools": [{{Paint}}], "parallel_tool_calls": false """, model: model);
        GenerationOptions options = AspNetCore.OpenAI.ChatRequest.Read(
            WireReader.Read(Encoding.UTF8.GetBytes(body), WireJson.Instance.ChatRequestBody), new OpenAIEndpointOptions()).Generation;
        Assert.Contains("paint", options.Constraint!.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_call_at_most_leaves_all_stop_strings_to_the_client()
    {
        string stops = string.Join(", ", Enumerable.Range(0, 64).Select(i => $"\"§{i}\""));
        await AskAsync(Json, $$""" "tools": [{{Sand}}], "parallel_tool_calls": false, "stop": [{{stops}}] """, tokens: 4);
    }

    [Theory]
    [InlineData("{\"properties\": {\"a\": {\"not\": {}}}}", "{}", "tools")]
    [InlineData("{}", "{\"not\": {}}", "response_format.json_schema.schema")]
    public async Task A_schema_that_cannot_be_held_to_is_named(string parameters, string format, string param)
    {
        string fields = $$""" "tools": [{"type": "function", "function": {"name": "f", "parameters": {{parameters}} } }] """
            + $$""", "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {{format}} } } """;
        (int status, JsonElement error) = await _server.RefusalAsync("chat/completions", ChatTests.Body(fields, model: Json));
        Assert.Equal((400, param), (status, error.GetProperty("param").GetString()));
    }

    private async Task<JsonElement> AskAsync(string model, string fields, int tokens = 120)
    {
        JsonElement answer = await _server.AskAsync(
            "chat/completions", ChatTests.Body($$"""{{fields}}, "max_tokens": {{tokens}}, "reasoning_effort": "none" """, model: model));
        return answer.GetProperty("choices")[0];
    }

    private static JsonElement[] Calls(JsonElement answer) =>
        answer.GetProperty("message").TryGetProperty("tool_calls", out JsonElement calls) ? [.. calls.EnumerateArray()] : [];

    private static void Check(JsonElement call)
    {
        JsonElement arguments = JsonElement.Parse(call.GetProperty("arguments").GetString()!);
        if (call.GetProperty("name").GetString() == "sand")
        {
            Assert.True(arguments.GetProperty("hard").ValueKind is JsonValueKind.True or JsonValueKind.False);
            return;
        }

        Assert.Contains(arguments.GetProperty("colour").GetString(), new[] { "red", "green" });
        Assert.InRange(arguments.GetProperty("coats").GetInt32(), 1, 3);
    }

    private void Serve(string name, string template)
    {
        string folder = NanoCheckpoint.WithTemplate(_folder.File(name), template);
        _server.Models.Set(new ServedModel(name, null, DateTimeOffset.UnixEpoch), new TextGenerator(Checkpoint.Open(folder), threads: 1));
    }
}
