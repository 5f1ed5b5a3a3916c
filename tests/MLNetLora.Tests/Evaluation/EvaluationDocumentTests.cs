using MLNetLora.Evaluation;
using MLNetLora.Tests.TextGeneration;

namespace MLNetLora.Tests.Evaluation;

/// <summary>docs/evaluation.md: its code runs, and it has every number.</summary>
public sealed class EvaluationDocumentTests
{
    private static readonly string s_page = File.ReadAllText(Path.Combine(Repository.Root, "docs", "evaluation.md")).ReplaceLineEndings("\n");

    [Fact]
    public void The_code_is_the_example_that_the_tests_compile() => Assert.Equal(
        ReadmeTests.Example(Path.Combine("Evaluation", nameof(EvaluationExample))).TrimEnd(),
        ReadmeTests.WithoutComments(Assert.Single(ReadmeTests.CSharpBlock().Matches(s_page)).Groups[1].Value.TrimEnd()));

    [Fact]
    public void The_code_runs()
    {
        using Workbench bench = new();
        string data = Path.Combine(Repository.Root, "samples", "CompanyQa", "company_data.json");
        EvaluationExample.Run(name => name.StartsWith("Qwen/", StringComparison.Ordinal) ? bench.BaseFolder : data);
    }

    [Fact]
    public void Every_number_is_explained()
    {
        string[] numbers = [.. new[] { typeof(TextGenerationMetrics), typeof(LanguageModelMetrics) }.SelectMany(type => type.GetProperties())
            .Select(property => property.Name).Where(name => name != "EqualityContract")];
        Assert.Contains("ChrFPlusPlus", numbers);
        Assert.All(numbers, name => Assert.Contains($"`{name}`", s_page, StringComparison.Ordinal));
    }
}
