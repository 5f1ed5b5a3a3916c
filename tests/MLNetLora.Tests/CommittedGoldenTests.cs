using MLNetLora.Tests.Text;

namespace MLNetLora.Tests;

/// <summary>A fresh clone has cases of every kind, so that no comparison passes there without comparing anything.</summary>
public sealed class CommittedGoldenTests
{
    [Theory]
    [InlineData("forward", 2)]
    [InlineData("gradients", 4)]
    [InlineData("training", 1)]
    [InlineData("models", 5)]
    public void Folders_of_every_kind_are_in_the_repository(string kind, int least) =>
        Assert.InRange(Directory.GetDirectories(Path.Combine(Golden.Committed, kind)).Length, least, int.MaxValue);

    [Theory]
    [InlineData("tokenizers/qwen3.cases.json")]
    [InlineData("templates/cases.json")]
    [InlineData("conversations/cases.json")]
    public void Ten_cases_of_every_kind_of_text_are_in_the_repository(string file) =>
        Assert.InRange(Json.Array(Path.Combine(Golden.Committed, file)).Count(), 10, int.MaxValue);

    [Fact]
    public void A_kind_that_no_set_has_is_an_error_and_not_an_empty_list()
    {
        string message = Assert.Throws<DirectoryNotFoundException>(() => Golden.Folders("absent").Count()).Message;
        Assert.Contains("no reference cases of the kind 'absent'", message, StringComparison.Ordinal);
    }
}
