using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Extensions.AI;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference;

/// <summary>Both forms of a call, and what is none.</summary>
public class ToolCallSyntaxTests
{
    private static readonly Dictionary<string, JsonElement> s_schemas = new()
    {
        ["f"] = JsonDocument.Parse(
            """
            {"type": "object", "properties": {"text": {"type": "string"}, "maybe": {"type": ["string", "null"]}, "count": {"type": "integer"},
             "list": {"type": "array", "items": {"type": "integer"}}, "on": {"type": "boolean"}, "none": {"type": ["integer", "null"]}, "any": {}}}
            """).RootElement,
    };

    [Theory]
    [InlineData("""{"name": "f", "arguments": {"text": "巴黎 \" 😀", "count": 3, "none": null}}""", """{"text":"巴黎 \" 😀","count":3,"none":null}""")]
    [InlineData("""  {"arguments": {"a": {"b": [1, "2"]}}, "name": "f", "id": 7}  """, """{"a":{"b": [1, "2"]}}""")]
    [InlineData("""{"name": "f", "arguments": "{\"text\": \"x\"}"}""", """{"text":"x"}""")]
    [InlineData("""{"name": "f"}""", "{}")]
    [InlineData("""{"name": "f", "arguments": null}""", "{}")]
    [InlineData("""{"name": "f", "arguments": {}}""", "{}")]
    public void A_call_in_JSON(string body, string arguments) => AssertCall("f", arguments, body);

    [Theory]
    [InlineData("<function=f>\n</function>", "{}")]
    [InlineData("<function=f>\n<parameter=text>\n12\n</parameter>\n<parameter=count>\n12\n</parameter>\n</function>", """{"text":"12","count":12}""")]
    [InlineData("<function=f><parameter=text>\n two\nlines \n\n</parameter></function>", """{"text":" two\nlines \n"}""")]
    [InlineData(
        "<function=f><parameter=list>\n[1, 2]\n</parameter><parameter=on>true</parameter><parameter=none>null</parameter></function>",
        """{"list":[1, 2],"on":true,"none":null}""")]
    [InlineData("<function=f><parameter=maybe>null</parameter><parameter=text>null</parameter></function>", """{"maybe":null,"text":"null"}""")]
    [InlineData("<function=f><parameter=count>\nmany\n</parameter></function>", """{"count":"many"}""")]
    [InlineData("<function=f><parameter=any>\n{\"a\": 1}\n</parameter><parameter=other>\nx\n</parameter></function>", """{"any":{"a": 1},"other":"x"}""")]
    [InlineData("<function=f><parameter=text><b>bold</b></parameter></function>", """{"text":"<b>bold</b>"}""")]
    [InlineData("<function=unknown>\n<parameter=a>\n1\n</parameter>\n</function>", """{"a":1}""")]
    public void A_call_in_tags(string body, string arguments) =>
        AssertCall(body.StartsWith("<function=unknown", StringComparison.Ordinal) ? "unknown" : "f", arguments, body);

    [Theory]
    [InlineData("")]
    [InlineData("text")]
    [InlineData("[]")]
    [InlineData("\"f\"")]
    [InlineData("""{"name": "f", "arguments": {"text": "x"}""")]
    [InlineData("""{"name": "f", "arguments": [1]}""")]
    [InlineData("""{"name": "f", "arguments": "text"}""")]
    [InlineData("""{"name": "", "arguments": {}}""")]
    [InlineData("""{"name": 1, "arguments": {}}""")]
    [InlineData("""{"arguments": {}}""")]
    [InlineData("""{"name": "\ud800", "arguments": {}}""")]
    [InlineData("""{"name": "f", "arguments": {"\ud800": 1}}""")]
    [InlineData("""{"name": "f", "arguments": {}} and more""")]
    [InlineData("<function=f>")]
    [InlineData("<function=>\n</function>")]
    [InlineData("<function=f><parameter=text>x</function>")]
    [InlineData("<function=f>text</function>")]
    [InlineData("<function=f></function> and more")]
    [InlineData("<function=f><parameter=text</function>")]
    public void What_is_no_call(string body) => Assert.Null(ToolCallSyntax.Parse(body, s_schemas));

    [Theory]
    [InlineData("""{"enum": ["12", "x"]}""", true)]
    [InlineData("""{"const": "12"}""", true)]
    [InlineData("""{"anyOf": [{"type": "null"}, {"type": "string"}]}""", true)]
    [InlineData("""{"$ref": "#/$defs/a~1b"}""", true)]
    [InlineData("""{"$ref": "#/$defs/c"}""", false)]
    [InlineData("""{"$ref": "https://other/#/$defs/c"}""", false)]
    [InlineData("""{"enum": [12]}""", false)]
    [InlineData("""{"minimum": 3}""", false)]
    public void A_value_in_tags_is_a_text_where_its_schema_says_so_anywhere(string schema, bool isText)
    {
        string circle = string.Join(',', Enumerable.Repeat("""{"$ref": "#/$defs/c"}""", 9)); // which would be followed for ever
        string definitions = $$"""{"a/b": {"type": "string"}, "c": {"anyOf": [{{circle}}], "allOf": [{{circle}}] } }""";
        JsonElement all = JsonDocument.Parse($$"""{"properties": {"p": {{schema}}}, "$defs": {{definitions}} }""").RootElement;
        FunctionCallContent call = ToolCallSyntax.Parse(
            "<function=f><parameter=p>\n12\n</parameter></function>", new Dictionary<string, JsonElement> { ["f"] = all })!;
        Assert.Equal(isText ? JsonValueKind.String : JsonValueKind.Number, ((JsonElement)call.Arguments!["p"]!).ValueKind);
    }

    [Fact]
    public void Deep_nesting_is_no_call() => Assert.Null(
        ToolCallSyntax.Parse($"{{\"name\": \"f\", \"arguments\": {{\"a\": {new string('[', 100_000)}{new string(']', 100_000)}}}}}", s_schemas));

    [Fact]
    public void Every_call_has_an_id_of_its_own()
    {
        string[] ids = [.. Enumerable.Range(0, 100).Select(_ => ToolCallSyntax.Parse("""{"name": "f"}""", s_schemas)!.CallId)];
        Assert.Equal(100, ids.Distinct().Count());
    }

    private static void AssertCall(string name, string arguments, string body)
    {
        FunctionCallContent call = Assert.IsType<FunctionCallContent>(ToolCallSyntax.Parse(body, s_schemas));
        Assert.Equal(name, call.Name);
        Assert.Null(call.Exception);
        string written = $"{{{string.Join(",", call.Arguments!.Select(argument =>
            $"\"{argument.Key}\":{(argument.Value is JsonElement json ? json.GetRawText() : "null")}"))}}}";
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(arguments), JsonNode.Parse(written)), written);
    }
}
