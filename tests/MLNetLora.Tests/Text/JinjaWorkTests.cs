using MLNetLora.Jinja;

namespace MLNetLora.Tests.Text;

/// <summary>What costs time is paid for, however few nodes of a template ask for it.</summary>
public class JinjaWorkTests
{
    private static readonly string s_long = new('a', 1_000_000);

    public static TheoryData<string> Costly => ["{{ a == b }}", "{{ a < b }}", "{{ c in a }}", "{{ a.find(c) }}", "{{ a.rfind(c) }}", "{{ a.count(c) }}",
        "{{ a.replace(c, '') }}", "{{ a.split(c) }}", "{{ a.rsplit(c) }}", "{{ a.partition(c) }}", "{{ a.rpartition(c) }}"];

    [Theory]
    [MemberData(nameof(Costly))]
    public void Long_texts_are_not_compared_for_nothing(string template)
    {
        // What it costs to make the texts is left; comparing them once is not. Searching costs one pass, and each place that may match.
        bool compares = !template.Contains('c');
        JinjaOptions options = new() { Work = compares ? 20_000 : 3_000_000, WorkPerCharacter = 0 };
        JinjaException error = Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(template).Render(Variables(), options));
        Assert.Contains("does more than", error.Message);

        // The same with short texts is within the bound.
        JinjaTemplate.Parse(template).Render(new Dictionary<string, object?> { ["a"] = "aab", ["b"] = "aab", ["c"] = "b" }, options);
    }

    [Fact]
    public void A_text_longer_than_any_is_an_error_of_the_template()
    {
        JinjaOptions options = new() { Work = long.MaxValue };
        JinjaException error = Assert.Throws<JinjaException>(() => JinjaTemplate.Parse("{{ a * 300 }}").Render(Variables(), options));
        Assert.Contains("makes a text of more than", error.Message);
    }

    [Fact]
    public void A_million_literals_and_names_behind_one_another_take_no_time_to_speak_of()
    {
        string literals = string.Concat(Enumerable.Repeat("'aa' ", 300_000));
        Assert.Equal(600_000, JinjaTemplate.Parse($"{{{{ {literals} }}}}").Render(new Dictionary<string, object?>()).Length);
        Assert.Throws<JinjaException>(() => JinjaTemplate.Parse($"{{{{ 1 | {string.Join('.', Enumerable.Repeat("a", 300_000))} }}}}")
            .Render(new Dictionary<string, object?>()));
    }

    private static Dictionary<string, object?> Variables() =>
        new() { ["a"] = s_long, ["b"] = new string('a', s_long.Length), ["c"] = s_long[..500_000] };
}
