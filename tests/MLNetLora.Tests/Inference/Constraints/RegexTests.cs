using System.Text;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference.Constraints;

public sealed class RegexTests
{
    [Theory]
    [InlineData("yes|no", "yes", "no", "ye", "yesno", "")]
    [InlineData("^a$|b+", "a", "bbb", "ab", "c")]
    [InlineData("(ab?c){2,3}", "acabc", "abcacac", "ac", "acacacac")]
    [InlineData("a{2}", "aa", "aa", "a", "aaa")]
    [InlineData("a{2,}?x", "aax", "aaaaax", "ax")]
    [InlineData("(a*)+b{0,1}", "", "aaab", "bb")]
    [InlineData("(a+){2,}", "aa", "aaaa", "a")]
    [InlineData("(a|ab)(c|bcd)(d*)", "abcd", "acdd", "abd")]
    [InlineData("[^a-c\\]]\\d\\w\\s", "x1_\n", "é2Z ", "a1_ ", "x١_ ", "xé_ ")]
    [InlineData("\\D\\W\\S", "a-b", "😀—é", "1-b", "aéb", "a-\u00A0", "٣-b")]
    [InlineData("[\\d\\-x]+", "1-x", "---", "y")]
    [InlineData("\\x41\\u0042\\u{1F600}\\uD83D\\uDE00\\cA\\0", "AB😀😀\u0001\0", "AB😀😀\u0001\0", "AB😀")]
    [InlineData("\\p{Lu}\\p{L}+\\P{L}", "Éclair!", "Ωω-", "éa!", "Éa")]
    [InlineData("(?<year>\\d{4})-(?:\\d\\d)", "2026-11", "0000-00", "2026-1")]
    [InlineData(".", "é", "😀", "\n", "ab")]
    [InlineData("[😀-😂]", "😁", "😂", "😃")]
    [InlineData("\\.\\*\\/\\{}", ".*/{}", ".*/{}", "a")]
    [InlineData("{a}x{,2}", "{a}x{,2}", "{a}x{,2}", "xx")]
    [InlineData("中+文", "中文", "中中中文", "中")]
    public void A_text_is_told_from_what_does_not_match(string pattern, string matching, string other, params string[] not)
    {
        OutputConstraint constraint = OutputConstraint.Regex(pattern);
        Assert.True(RandomAnswers.OverNano.Allows(constraint, matching), matching);
        Assert.True(RandomAnswers.OverNano.Allows(constraint, other), other);
        foreach (string text in not)
        {
            Assert.False(RandomAnswers.OverNano.Allows(constraint, text), text);
        }
    }

    [Theory]
    [InlineData("a(?=b)", "lookahead")]
    [InlineData("a(?!b)", "lookahead")]
    [InlineData("(?<=a)b", "lookbehind")]
    [InlineData("(?<!a)b", "lookbehind")]
    [InlineData(@"(a)\1", "backreference")]
    [InlineData(@"(?<x>a)\k<x>", "backreference")]
    [InlineData(@"\ba", "word boundary")]
    [InlineData("(?i)a", "flags")]
    [InlineData("(?>a)", "atomic")]
    [InlineData("a++", "possessive")]
    [InlineData("a**", "another quantifier")]
    [InlineData("a^b", "^ or $")]
    [InlineData("(a$)*", "^ or $")]
    [InlineData("(a", "without a )")]
    [InlineData("a)", "without a (")]
    [InlineData("[a", "without a ]")]
    [InlineData("[z-a]", "range")]
    [InlineData(@"[^\d\D]", "without any character")]
    [InlineData("*a", "nothing before")]
    [InlineData("{2}", "nothing before")]
    [InlineData("a{3,2}", "ends before")]
    [InlineData("a{999999}", "counter above")]
    [InlineData("((a{1,999}){1,999}){1,999}", "written out")]
    [InlineData(@"\p{Greek}", "general categories")]
    [InlineData(@"\uD83D", "surrogate")]
    [InlineData(@"\u{110000}", "no character")]
    [InlineData(@"\xZ1", "hexadecimal")]
    [InlineData(@"\y", "not known")]
    [InlineData(@"a\", "backslash")]
    public void What_is_no_regular_language_is_refused_in_words(string pattern, string word) =>
        Assert.Contains(word, Assert.Throws<ConstraintException>(() => OutputConstraint.Regex(pattern)).Message, StringComparison.Ordinal);

    [Fact]
    public void Too_much_is_refused_and_not_computed()
    {
        Assert.Throws<ConstraintException>(() => OutputConstraint.Regex("\ud83d"));
        Assert.Throws<ConstraintException>(() => OutputConstraint.Regex(new string('a', 9000)));
        Assert.Throws<ConstraintException>(() => OutputConstraint.Regex(string.Concat(Enumerable.Repeat("(", 200)) + "a" + new string(')', 200)));
    }

    [Fact]
    public void Answers_match_and_characters_are_whole()
    {
        Random random = new(3);
        OutputConstraint constraint = OutputConstraint.Regex(@"[À-𐍈😀中]{1,20}");
        for (int i = 0; i < 50; i++)
        {
            string text = RandomAnswers.OverNano.Text(constraint, random);
            Assert.InRange(text.EnumerateRunes().Count(), 1, 20);
            Assert.All(text.EnumerateRunes(), rune => Assert.True(rune.Value is (>= 0xC0 and <= 0x10348) or 0x1F600, rune.ToString()));
            Assert.DoesNotContain(Rune.ReplacementChar, text.EnumerateRunes().Where(rune => rune.Value > 0x10348));
        }
    }

    [Fact]
    public void An_answer_that_is_complete_ends_and_one_that_may_go_on_may()
    {
        (byte[] bytes, bool hasEnded) = RandomAnswers.OverNano.Write(OutputConstraint.Regex("abc"), new Random(1), maximumTokens: 3);
        Assert.True(hasEnded);
        Assert.Equal("abc", Encoding.UTF8.GetString(bytes));
        HashSet<int> lengths = [];
        for (int i = 0; i < 30; i++)
        {
            lengths.Add(RandomAnswers.OverNano.Text(OutputConstraint.Regex("a+"), new Random(i)).Length);
        }

        Assert.True(lengths.Count > 1);
    }
}
