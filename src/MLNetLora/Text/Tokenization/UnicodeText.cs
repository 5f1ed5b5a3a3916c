using System.Buffers;
using System.Globalization;
using System.Text;

namespace MLNetLora.Text;

/// <summary>What happens to text before it is split: unpaired surrogates become U+FFFD, then Unicode normalization form C.</summary>
internal static class UnicodeText
{
    private const int MarksAtOnce = 256;

    /// <summary>
    /// Characters that are unchanged by NFC whatever stands around them, as long as only such characters stand there: no combining mark, no
    /// conjoining jamo, no singleton.
    /// Latin, Greek and Cyrillic up to the first mark, Han, kana, Hangul syllables, general punctuation and full-width forms: nearly all text, so
    /// that most calls never reach the ICU library.
    /// </summary>
    private static readonly SearchValues<char> Settled = SearchValues.Create(SettledCharacters());

    /// <summary>Fails where string.Normalize silently does nothing, because ids would silently differ from Qwen's.</summary>
    /// <exception cref="TokenizerException">The process runs in globalization-invariant mode.</exception>
    public static void RequireNormalization() => RequireNormalization(text => text.Normalize(NormalizationForm.FormC));

    /// <summary>The same for a given normalization.</summary>
    /// <exception cref="TokenizerException">It does not compose.</exception>
    public static void RequireNormalization(Func<string, string> normalize)
    {
        if (Composes(normalize))
        {
            return;
        }

        throw new TokenizerException(
            "Qwen's tokenizers normalize text to NFC, and this process runs in globalization-invariant mode, where .NET's string.Normalize does nothing. "
            + "Set <InvariantGlobalization>false</InvariantGlobalization> in the project file (or DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=0 in the environment) "
            + "and install the ICU libraries (Alpine: icu-libs, Debian and Ubuntu: libicu-dev; chiseled images: the -extra variant).");
    }

    /// <summary>Replaces every unpaired surrogate with U+FFFD.</summary>
    /// <param name="text">Any UTF-16 text.</param>
    /// <param name="replaced">How many were replaced.</param>
    /// <returns>The same instance where nothing had to be replaced.</returns>
    public static string ReplaceUnpairedSurrogates(string text, out int replaced)
    {
        replaced = 0;
        int at = text.AsSpan().IndexOfAnyInRange('\uD800', '\uDFFF');
        if (at < 0)
        {
            return text;
        }

        char[]? repaired = null;
        for (; at < text.Length; at++)
        {
            if (!char.IsSurrogate(text[at]))
            {
                continue;
            }

            if (char.IsHighSurrogate(text[at]) && at + 1 < text.Length && char.IsLowSurrogate(text[at + 1]))
            {
                at++;
                continue;
            }
            repaired ??= text.ToCharArray();
            repaired[at] = '\uFFFD';
            replaced++;
        }
        return repaired is null ? text : new string(repaired);
    }

    /// <summary>How many unpaired surrogates a text has; 0 for null.</summary>
    public static int UnpairedSurrogates(string? text)
    {
        int count = 0;
        if (text is not null && text.AsSpan().ContainsAnyInRange('\uD800', '\uDFFF'))
        {
            _ = ReplaceUnpairedSurrogates(text, out count);
        }

        return count;
    }

    /// <summary>Normalization form C of well-formed text.</summary>
    /// <param name="text">Text without unpaired surrogates.</param>
    /// <returns>The same instance where the text is normalized already.</returns>
    public static string ToFormC(string text)
    {
        if (!text.AsSpan().ContainsAnyExcept(Settled))
        {
            return text;
        }
        // .NET takes the noncharacter U+FFFE for a byte order error and throws; it combines with nothing, so the pieces around it are normalized one by one.
        return text.Contains('\uFFFE', StringComparison.Ordinal)
            ? string.Join('\uFFFE', text.Split('\uFFFE').Select(Normalized))
            : Normalized(text);
    }

    /// <summary>
    /// The time for marks behind one another grows with their square, so of more than 256 of them, which no language has, each 256 are normalized by themselves
    /// (as Unicode's stream-safe format bounds them, UAX #15, with 30).
    /// </summary>
    private static string Normalized(string text)
    {
        List<int> cuts = [];
        int marks = 0;
        for (int i = 0; i < text.Length && text.Length > MarksAtOnce; i++)
        {
            if (char.IsLowSurrogate(text[i]))
            {
                continue;
            }

            bool isMark = CharUnicodeInfo.GetUnicodeCategory(text, i)
                is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark;
            marks = isMark ? marks + 1 : 0;
            if (marks > MarksAtOnce)
            {
                cuts.Add(i);
                marks = 1;
            }
        }

        return cuts.Count == 0
            ? text.Normalize(NormalizationForm.FormC)
            : string.Concat(cuts.Prepend(0).Zip(cuts.Append(text.Length), (from, to) => text[from..to].Normalize(NormalizationForm.FormC)));
    }

    private static bool Composes(Func<string, string> normalize)
    {
        try
        {
            return normalize("e\u0301") == "\u00e9";
        }
        catch (PlatformNotSupportedException)
        {
            return false;
        }
    }

    private static char[] SettledCharacters()
    {
        (int First, int Last)[] ranges =
        [
            (0x0000, 0x02FF), (0x0400, 0x0482), (0x048A, 0x052F), (0x2010, 0x205F), (0x20A0, 0x20BF), (0x2190, 0x21FF), (0x2460, 0x27BF), (0x3000, 0x3029),
            (0x3030, 0x3098), (0x309B, 0x30FF),
            (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFF00, 0xFFEF),
        ];
        return [.. ranges.SelectMany(range => Enumerable.Range(range.First, range.Last - range.First + 1)).Select(code => (char)code)];
    }
}
