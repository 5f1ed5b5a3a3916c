using System.Text.Json;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference.Constraints;

public sealed class JsonConstraintTests
{
    [Fact]
    public void Any_object_that_comes_is_json()
    {
        Random random = new(1);
        for (int i = 0; i < 100; i++)
        {
            string text = RandomAnswers.OverNano.Text(OutputConstraint.JsonObject, random);
            using JsonDocument document = JsonDocument.Parse(text);
            Assert.Equal(JsonValueKind.Object, document.RootElement.ValueKind);
        }
    }

    [Theory]
    [InlineData("{}", true)]
    [InlineData("{\"a\": [1, 2.5, -0.1e+5, true, false, null, \"x\", {}], \"b\": {\"c\": []}}", true)]
    [InlineData("{\"a\":1,\"b\":\"\"}", true)]
    [InlineData("{\n  \"a\": 1,\n  \"b\": [\n    1\n  ]\n}", true)]
    [InlineData("{\"\\uD83D\\uDE00 \\\\ \\\" \\/ \\n 中文 😀\": \"é\"}", true)]
    [InlineData("{\"a\": \"\\uD83D\"}", false)]
    [InlineData("{\"a\": \"\\uDE00\"}", false)]
    [InlineData("{\"a\": \"\\x\"}", false)]
    [InlineData("{\"a\": \"\n\"}", false)]
    [InlineData("{\"a\": 01}", false)]
    [InlineData("{\"a\": 1.}", false)]
    [InlineData("{\"a\": 1e500}", false)]
    [InlineData("{\"a\": 1,}", false)]
    [InlineData("{\"a\" 1}", false)]
    [InlineData("{a: 1}", false)]
    [InlineData("{\"a\": 1}}", false)]
    [InlineData("{\"a\": 1", false)]
    [InlineData("[]", false)]
    [InlineData("", false)]
    public void An_object_is_told_from_what_is_none(string text, bool isOne) =>
        Assert.Equal(isOne, RandomAnswers.OverNano.Allows(OutputConstraint.JsonObject, text));

    [Theory]
    [InlineData(64, true)]
    [InlineData(65, false)]
    public void Nesting_ends_where_readers_end(int depth, bool isAllowed) => Assert.Equal(isAllowed, RandomAnswers.OverNano.Allows(
        OutputConstraint.JsonObject, string.Concat(Enumerable.Repeat("{\"a\":", depth - 1)) + "{}" + new string('}', depth - 1)));
}
