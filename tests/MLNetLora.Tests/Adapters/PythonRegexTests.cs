using MLNetLora.Adapters;

namespace MLNetLora.Tests.Adapters;

/// <summary>Patterns as Python 3.11's re.fullmatch reads them; each line was tried there.</summary>
public sealed class PythonRegexTests
{
    [Theory]
    [InlineData("a{,2}", "aa", true)]
    [InlineData("a{,2}", "a{,2}", false)]
    [InlineData("a{,}", "aaa", true)]
    [InlineData("a{2,}", "aa", true)]
    [InlineData("a{2}", "aaa", false)]
    [InlineData("a{}", "a{}", true)]
    [InlineData("a{x}", "a{x}", true)]
    [InlineData("[0-9-[1]]", "1]", true)]
    [InlineData("[0-9-[1]]", "2", false)]
    [InlineData("[]a]+", "]a", true)]
    [InlineData("[^]a]", "b", true)]
    [InlineData("(?P<n>[0-9]+)[.](?P=n)", "12.12", true)]
    [InlineData("(?P<n>[0-9]+)[.](?P=n)", "12.13", false)]
    [InlineData(@"q_proj\Z", "q_proj", true)]
    [InlineData(@"\x71_proj", "q_proj", true)]
    [InlineData(@"[\w.]+\.\d+\.mlp", "model.layers.3.mlp", true)]
    [InlineData("(?:q|v)_proj(?!x)", "v_proj", true)]
    [InlineData("(?<=q)_proj|q_proj", "q_proj", true)]
    public void It_matches_as_in_Python(string pattern, string name, bool expected) =>
        Assert.Equal(expected, PythonRegex.Whole(pattern, "", TimeSpan.FromSeconds(1)).IsMatch(name));

    [Theory]
    [InlineData("(?<n>a)", "holds (?<n")]
    [InlineData("(?'n'a)", "holds (?'n")]
    [InlineData(@"\p{Nd}", @"holds \p")]
    [InlineData(@"[\p{L}]", @"holds \p")]
    [InlineData(@"\z", @"holds \z")]
    [InlineData(@"\G", @"holds \G")]
    [InlineData(@"(a)\1", @"holds \1")]
    [InlineData(@"\x7", @"holds \x")]
    [InlineData("(?i)a", "holds (?i)")]
    [InlineData("(?P=", "without a name")]
    [InlineData("[a", "has a [ without a ]")]
    [InlineData("a\\", "ends with a backslash")]
    [InlineData("(a", "is not a regular expression")]
    [InlineData("a**", "is not a regular expression")]
    public void What_Python_does_not_know_or_reads_otherwise_is_refused(string pattern, string message) =>
        Assert.Contains(
            message,
            Assert.Throws<AdapterException>(() => PythonRegex.Whole(pattern, "", TimeSpan.FromSeconds(1))).Message,
            StringComparison.Ordinal);
}
