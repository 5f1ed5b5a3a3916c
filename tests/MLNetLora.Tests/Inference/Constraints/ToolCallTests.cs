using System.Text.Json;
using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference.Constraints;

public sealed class ToolCallTests
{
    private static readonly JsonElement[] s_tools = [.. JsonDocument.Parse("""
        [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
            "properties": {"city": {"type": "string"}, "days": {"$ref": "#/$defs/days"}}, "required": ["city"],
            "$defs": {"days": {"type": "integer", "maximum": 9}}}}},
         {"name": "now"}, {"name": "of \"any\"", "parameters": {}}]
        """).RootElement.EnumerateArray()];

    private static string Call(string name, string arguments) => $"<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {arguments}}}\n</tool_call>";

    [Theory]
    [InlineData(true, null, true)]
    [InlineData(true, null, false)]
    [InlineData(true, "now", true)]
    [InlineData(false, null, true)]
    public void Calls_are_told_from_what_are_none(bool required, string? name, bool several)
    {
        OutputConstraint constraint = OutputConstraint.ToolCalls(s_tools, required, name, several);
        string weather = Call("weather", "{\"city\": \"Bern\", \"days\": 3}");
        string now = Call("now", "{\"any\": [1]}");
        bool Allows(string text) => RandomAnswers.OverNano.Allows(constraint, text);
        Assert.Equal(name is null, Allows(weather));
        Assert.True(Allows(now));
        Assert.Equal(name is null, Allows(Call("of \\\"any\\\"", "{}")));
        Assert.Equal(several, Allows(now + "\n" + now));
        Assert.Equal(name is null && several, Allows(weather + "\n" + now + "\n" + weather));
        Assert.False(Allows(Call("weather", "{\"days\": 3}")));
        Assert.False(Allows(Call("weather", "{\"city\": \"Bern\", \"days\": 10}")));
        Assert.False(Allows(Call("none", "{}")));
        Assert.False(Allows(Call("now", "[]")));
        Assert.False(Allows("<tool_call>\n</tool_call>"));
        Assert.Equal(!required, Allows(""));
        Assert.Equal(!required, Allows("It is five <tool_ca."));
        Assert.Equal(!required, Allows("I look.\n" + now));
        Assert.False(Allows("I look. <tool_call>x"));
        Assert.False(Allows(now + " It is five."));
    }

    [Fact]
    public void Random_scores_give_calls_that_can_be_read()
    {
        Random random = new(5);
        OutputConstraint constraint = OutputConstraint.ToolCalls(s_tools);
        HashSet<string> called = [];
        for (int i = 0; i < 40; i++)
        {
            string text = RandomAnswers.OverNano.Text(constraint, random);
            foreach (string call in text.Split("</tool_call>")[..^1])
            {
                using JsonDocument document = JsonDocument.Parse(call.TrimStart('\n')["<tool_call>\n".Length..]);
                called.Add(document.RootElement.GetProperty("name").GetString()!);
                Assert.Equal(JsonValueKind.Object, document.RootElement.GetProperty("arguments").ValueKind);
            }
        }

        Assert.Equal(3, called.Count);
    }

    [Fact]
    public void The_tag_may_be_a_token_of_its_own()
    {
        // Qwen3's tokenizer has it.
        QwenTokenizer tokenizer = QwenTokenizer.Load(Path.Combine(Golden.Committed, "tokenizers", "qwen3"));
        ITokenMask mask = OutputConstraint.ToolCalls(s_tools, required: false).Begin(tokenizer, [], ThinkingPart.None);
        int open = tokenizer.SpecialTokens["<tool_call>"];
        float[] logits = new float[tokenizer.VocabularySize];
        mask.Apply(logits);
        Assert.Equal(0, logits[open]);
        Assert.Equal(float.NegativeInfinity, logits[tokenizer.ImStartId!.Value]);
        Assert.True(mask.Accept(open));
        Assert.False(mask.Accept(tokenizer.ImEndId!.Value));
        Array.Clear(logits);
        mask.Apply(logits);
        Assert.Equal(float.NegativeInfinity, logits[open]);
        Assert.True(tokenizer.TryGetId("Ċ", out int newLine));
        Assert.Equal(0, logits[newLine]);
    }

    [Fact]
    public void What_is_wrong_with_tools_is_named()
    {
        Assert.Contains("weather", Assert.Throws<ConstraintException>(() => OutputConstraint.ToolCalls(s_tools, name: "x")).Message, StringComparison.Ordinal);
        Assert.Throws<ConstraintException>(() => OutputConstraint.ToolCalls([]));
        Assert.Throws<ConstraintException>(() => OutputConstraint.ToolCalls([s_tools[1], s_tools[1]]));
        Assert.Throws<ConstraintException>(() => OutputConstraint.ToolCalls([JsonDocument.Parse("{\"type\": \"function\"}").RootElement]));
        JsonElement refused = JsonDocument.Parse("{\"name\": \"f\", \"parameters\": {\"properties\": {\"a\": {\"not\": {}}}}}").RootElement;
        ConstraintException error = Assert.Throws<ConstraintException>(() => OutputConstraint.ToolCalls([refused]));
        Assert.Equal("#/properties/a/not", error.Pointer);
        Assert.Contains("'f'", error.Message, StringComparison.Ordinal);
        JsonElement list = JsonDocument.Parse("{\"name\": \"f\", \"parameters\": {\"type\": \"array\"}}").RootElement;
        Assert.Throws<ConstraintException>(() => OutputConstraint.ToolCalls([list]));
    }
}
