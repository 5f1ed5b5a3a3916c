using MLNetLora.Inference;
using MLNetLora.Inference.Constraints;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>docs/structured-output.md: its code runs, and what it says of keywords is so.</summary>
[Collection(Alone.Name)]
public sealed class StructuredOutputDocumentTests
{
    private static readonly string s_page = File.ReadAllText(Path.Combine(Repository.Root, "docs", "structured-output.md")).ReplaceLineEndings("\n");

    [Fact]
    public void The_code_is_the_example_that_the_tests_compile() => Assert.Equal(
        ReadmeTests.Example(Path.Combine("Inference", "Constraints", nameof(StructuredOutputExample))).TrimEnd(),
        ReadmeTests.WithoutComments(Assert.Single(ReadmeTests.CSharpBlock().Matches(s_page)).Groups[1].Value.TrimEnd()));

    [Fact]
    public void The_code_runs() => StructuredOutputExample.Run(_ => Repository.Nano);

    [Fact]
    public void Every_keyword_is_named()
    {
        Assert.Contains("multipleOf", SchemaKeywords.All);
        Assert.Contains("if", SchemaKeywords.All);
        string[] old = ["dependencies", "additionalItems", "$recursiveRef", "$dynamicRef", "minContains", "maxContains", "unevaluatedItems"];
        Assert.All(SchemaKeywords.All.Except(old), keyword => Assert.Contains($"`{keyword}`", s_page, StringComparison.Ordinal));
        Assert.All(StringFormats.All, format => Assert.Contains(format, s_page, StringComparison.Ordinal));
    }
}
