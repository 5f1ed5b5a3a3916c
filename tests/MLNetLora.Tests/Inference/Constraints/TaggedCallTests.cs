using System.Text;
using System.Text.Json;
using Microsoft.Extensions.AI;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Calls in the form of &lt;function=…&gt;: what they are held to, and that what is written so is read as a call that satisfies the schema.</summary>
public sealed class TaggedCallTests
{
    private static readonly JsonElement[] s_tools = [.. JsonDocument.Parse("""
        [{"type": "function", "function": {"name": "pay.it", "parameters": {"type": "object", "required": ["to", "amount", "now"], "properties": {
            "to": {"type": "string"}, "amount": {"type": "integer", "maximum": 99}, "now": {"type": "boolean"},
            "code": {"type": "string", "pattern": "^[A-Z]{2}$"}, "day": {"$ref": "#/$defs/day"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}, "note": {},
            "by": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]}},
            "$defs": {"day": {"enum": ["Monday", "Sunday"]}}}}},
         {"name": "time"}, {"name": "set", "parameters": {"type": "object", "additionalProperties": {"type": "integer"}}}]
        """).RootElement.EnumerateArray()];

    [Theory]
    [InlineData("time", "", true)]
    [InlineData("time", "a=1", false)]
    [InlineData("pay.it", "to=an <a> b</a>\nc;amount=-12;now=true", true)]
    [InlineData("pay.it", "to=;amount=0;now=false;code=AB;day=Sunday;tags=[\"a\", \"b\"];note=\"x\";by=me", true)]
    [InlineData("pay.it", "to=null;amount=0;now=false;note=no JSON", true)]
    [InlineData("pay.it", "to=a;amount=0;now=false;by=null", true)]
    [InlineData("pay.it", "to=\n;amount=0;now=false", true)]
    [InlineData("pay.it", "to=a;amount=1", false)]
    [InlineData("pay.it", "amount=1;to=a;now=true", false)]
    [InlineData("pay.it", "to=a;amount=x;now=true", false)]
    [InlineData("pay.it", "to=a;amount=100;now=true", false)]
    [InlineData("pay.it", "to=a</parameter>;amount=1;now=true", false)]
    [InlineData("pay.it", "to=</tool_call>;amount=1;now=true", false)]
    [InlineData("pay.it", "to=a;amount=1;now=true;code=abc", false)]
    [InlineData("pay.it", "to=a;amount=1;now=true;day=\"Sunday\"", false)]
    [InlineData("pay.it", "to=a;amount=1;now=true;day=Friday", false)]
    [InlineData("pay.it", "to=a;amount=1;now=true;tags=[\"c\"]", false)]
    [InlineData("pay.it", "to=a;amount=1;now=true;by=long", false)]
    [InlineData("pay.it", "to=a;amount=1;now=true;other=1", false)]
    [InlineData("set", "volume=3;x.y=4", true)]
    [InlineData("set", "volume=loud", false)]
    [InlineData("pay_it", "", false)]
    public void A_call_is_allowed_where_it_satisfies_the_schema(string name, string arguments, bool isAllowed)
    {
        string body = Body(name, arguments);
        string call = $"<tool_call>\n{body}\n</tool_call>";
        Assert.Equal(isAllowed, Allows(call, several: false));
        Assert.Equal(isAllowed, Allows($"{call}\n{call}", several: true));
        Assert.False(Allows($"{call}\n{call}", several: false));
        Assert.False(Allows($"I call. {call}", several: true));
        Assert.Equal(isAllowed, Allows($"I call. {call}", several: true, required: false));
        Assert.False(RandomAnswers.OverNano.Allows(OutputConstraint.ToolCalls(s_tools), call)); // of a checkpoint whose calls are JSON
        if (isAllowed)
        {
            FunctionCallContent read = ToolCallSyntax.Parse(body, Schemas())!;
            Assert.Equal(arguments.Split('=').Length - 1, read.Arguments!.Count);
            Assert.Null(Error(name, read));
        }
    }

    [Fact]
    public void Random_scores_over_random_schemas_give_calls_that_satisfy_them()
    {
        Random random = new(11);
        RandomSchemas schemas = new(random);
        (int whole, int arguments) = (0, 0);
        for (int i = 0; i < 60; i++)
        {
            string schema = schemas.Next().Replace("n\\n", "n", StringComparison.Ordinal); // no name of a parameter
            JsonElement tool = JsonDocument.Parse($$"""{"name": "f", "parameters": {{schema}}}""").RootElement;
            OutputConstraint constraint = OutputConstraint.ToolCalls([tool], several: false);
            (byte[] bytes, bool hasEnded) = RandomAnswers.OverNano.Write(constraint, random, maximumTokens: 200, calls: ToolCallForm.FunctionTags);
            if (!hasEnded)
            {
                continue; // what knows nothing finds no end of a text that has no limit
            }

            string text = Encoding.UTF8.GetString(bytes);
            string body = text["<tool_call>".Length..^"</tool_call>".Length];
            FunctionCallContent? call = ToolCallSyntax.Parse(body, new Dictionary<string, JsonElement> { ["f"] = tool.GetProperty("parameters") });
            Assert.True(call is not null, text);
            string? error = SchemaValidator.Error(schema, JsonSerializer.Serialize(call.Arguments));
            Assert.True(error is null, $"{schema}\n{text}\n{error}");
            whole++;
            arguments += call.Arguments!.Count;
        }

        Assert.True(whole > 20 && arguments > 40, $"{whole} calls with {arguments} arguments");
    }

    [Fact]
    public void Calls_or_JSON_take_the_form_too()
    {
        OutputConstraint constraint = OutputConstraint.ToolCallsOrJson(s_tools, several: true, """{"type": "integer"}""");
        Assert.True(RandomAnswers.OverNano.Allows(constraint, $"<tool_call>\n{Body("time", "")}\n</tool_call>", calls: ToolCallForm.FunctionTags));
        Assert.True(RandomAnswers.OverNano.Allows(constraint, "12", calls: ToolCallForm.FunctionTags));
        Assert.False(RandomAnswers.OverNano.Allows(constraint, "twelve", calls: ToolCallForm.FunctionTags));
        Assert.False(RandomAnswers.OverNano.Allows(constraint, $"<tool_call>\n{Body("time", "")}\n</tool_call>"));
    }

    [Fact]
    public void Descriptions_may_go_before_they_are_used()
    {
        OutputConstraint constraint;
        using (JsonDocument document = JsonDocument.Parse("""{"name": "once"}"""))
        {
            constraint = OutputConstraint.ToolCalls([document.RootElement]);
        }

        Assert.True(RandomAnswers.OverNano.Allows(constraint, $"<tool_call>\n{Body("once", "")}\n</tool_call>", calls: ToolCallForm.FunctionTags));
    }

    [Theory]
    [InlineData("""{"name": "a>b"}""", "a>b")]
    [InlineData("""{"name": "f", "parameters": {"properties": {" x": {"type": "string"}}}}""", "' x'")]
    [InlineData("""{"name": "f", "parameters": {"type": "object", "enum": [{}]}}""", "whole arguments")]
    public void What_tags_cannot_hold_is_named(string tool, string named)
    {
        OutputConstraint constraint = OutputConstraint.ToolCalls([JsonDocument.Parse(tool).RootElement]); // as JSON it can
        ConstraintException error = Assert.Throws<ConstraintException>(() => RandomAnswers.OverNano.Allows(constraint, "", calls: ToolCallForm.FunctionTags));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    private static string Body(string name, string arguments)
    {
        IEnumerable<string> parameters = arguments.Split(';', StringSplitOptions.RemoveEmptyEntries).Select(pair => pair.Split('='))
            .Select(pair => $"<parameter={pair[0]}>\n{pair[1]}\n</parameter>\n");
        return $"<function={name}>\n{string.Concat(parameters)}</function>";
    }

    private static bool Allows(string text, bool several, bool required = true) =>
        RandomAnswers.OverNano.Allows(OutputConstraint.ToolCalls(s_tools, required, several: several), text, calls: ToolCallForm.FunctionTags);

    private static Dictionary<string, JsonElement> Schemas() => s_tools.Select(tool => tool.TryGetProperty("function", out JsonElement inner) ? inner : tool)
        .Where(function => function.TryGetProperty("parameters", out _))
        .ToDictionary(function => function.GetProperty("name").GetString()!, function => function.GetProperty("parameters"));

    private static string? Error(string name, FunctionCallContent call) =>
        Schemas().TryGetValue(name, out JsonElement schema) ? SchemaValidator.Error(schema.GetRawText(), JsonSerializer.Serialize(call.Arguments)) : null;
}
