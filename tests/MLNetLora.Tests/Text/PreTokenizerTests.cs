using System.Globalization;
using System.Text.RegularExpressions;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class PreTokenizerTests
{
    [Theory]
    [InlineData(PreTokenizer.QwenPattern)]
    [InlineData(PreTokenizer.QwenMarksPattern)]
    public void Words_are_those_of_the_pattern_on_the_basic_plane(string pattern)
    {
        // ſ is left out: .NET does not fold it to s, Oniguruma and Rust do. Supplementary planes are left out: .NET's classes do not reach them.
        Regex regex = new(pattern, RegexOptions.CultureInvariant);
        PreTokenizer splitter = PreTokenizer.For(pattern)!;
        Random random = new(11);
        const string Alphabet = "aB're'LL'S'tvmdé中한१1Ⅷ. ,!\r\n\t\u00a0\u3000\u2028\u0301\u093f_-'  \n";
        for (int i = 0; i < 20000; i++)
        {
            string text = new([.. Enumerable.Range(0, random.Next(1, 16)).Select(_ => Alphabet[random.Next(Alphabet.Length)])]);
            Assert.Equal(regex.Matches(text).Select(match => match.Value), Split(splitter, text));
        }
    }

    [Theory]
    [InlineData("x𠮷y 𝒳1", "x𠮷y| 𝒳|1")]
    [InlineData("𝟙𝟚", "𝟙|𝟚")]
    [InlineData("😀😀\n\nx", "😀😀\n\n|x")]
    [InlineData("don'ſ 'ſ", "don|'ſ| '|ſ")]
    [InlineData("a   b", "a|  | b")]
    [InlineData("a \n \n  b", "a| \n \n| | b")]
    [InlineData("a  ", "a|  ")]
    public void Words_go_by_code_points(string text, string expected) =>
        Assert.Equal(expected.Split('|'), Split(PreTokenizer.For(PreTokenizer.QwenPattern)!, text));

    [Fact]
    public void Other_patterns_are_not_known() => Assert.Null(PreTokenizer.For(@"\p{N}{1,3}| ?\p{L}+"));

    [Fact]
    public void What_is_taken_as_normalized_is_normalized()
    {
        // Every character by itself, and every pair of one such character with each of a few that combine, through the same shortcut.
        for (int code = 0; code <= char.MaxValue; code++)
        {
            char c = (char)code;
            if (char.IsSurrogate(c) || c == '\uFFFE')
            {
                continue;
            }

            Assert.Equal(c.ToString().Normalize(), UnicodeText.ToFormC(c.ToString()));
            bool mark = CharUnicodeInfo.GetUnicodeCategory(c) is UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark
                or UnicodeCategory.SpacingCombiningMark;
            foreach (string pair in mark ? [$"{c}\u0301", $"a{c}", $"\u302b{c}\u302a"] : (string[])[$"{c}\u0301", $"{c}\u11a8"])
            {
                Assert.Equal(pair.Normalize(), UnicodeText.ToFormC(pair));
            }
        }
    }

    [Fact]
    public void A_normalization_that_does_nothing_is_detected()
    {
        TokenizerException error = Assert.Throws<TokenizerException>(() => UnicodeText.RequireNormalization(text => text));
        Assert.Contains("InvariantGlobalization", error.Message, StringComparison.Ordinal);
        Assert.Throws<TokenizerException>(() => UnicodeText.RequireNormalization(_ => throw new PlatformNotSupportedException()));
    }

    private static IEnumerable<string> Split(PreTokenizer splitter, string text)
    {
        for (int start = 0, end; start < text.Length; start = end)
        {
            end = splitter.WordEnd(text, start);
            yield return text[start..end];
        }
    }
}
