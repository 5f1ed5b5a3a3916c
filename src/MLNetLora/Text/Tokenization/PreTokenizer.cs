using System.Globalization;

namespace MLNetLora.Text;

/// <summary>
/// Splits text into the words that byte-pair encoding never merges across, as Qwen's regular expression does:
/// <c>(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+</c>.
/// Written by hand over code points, because .NET's regular expressions see UTF-16 units and never match \p{L} outside the basic plane (𠮷, 𝒳), which
/// changes ids.
/// </summary>
internal sealed class PreTokenizer
{
    /// <summary>The pattern of Qwen 1 to 3, as tokenizer.json spells it.</summary>
    public const string QwenPattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>The pattern of Qwen 3.5: combining marks belong to words.</summary>
    public const string QwenMarksPattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    private static readonly PreTokenizer Plain = new(marksAreLetters: false);
    private static readonly PreTokenizer WithMarks = new(marksAreLetters: true);

    private readonly bool _marksAreLetters;
    private readonly Kind[] _basicPlane = new Kind[0x10000];

    private PreTokenizer(bool marksAreLetters)
    {
        _marksAreLetters = marksAreLetters;
        for (int code = 0; code < _basicPlane.Length; code++)
        {
            _basicPlane[code] = Classify(code);
        }
    }

    /// <summary>Whether combining marks belong to words, as in <see cref="QwenMarksPattern"/>.</summary>
    public bool MarksAreLetters => _marksAreLetters;

    private enum Kind : byte
    {
        Other,
        Letter,
        Number,

        /// <summary>White space other than the two line breaks of the pattern.</summary>
        Space,

        /// <summary>\r and \n; the pattern treats other line separators as white space.</summary>
        LineBreak,
    }

    /// <summary>The splitter for a pattern, or null for a pattern that is not Qwen's.</summary>
    public static PreTokenizer? For(string pattern) => pattern switch
    {
        QwenPattern => Plain,
        QwenMarksPattern => WithMarks,
        _ => null,
    };

    /// <summary>The end of the word that begins at <paramref name="start"/>.</summary>
    /// <param name="text">Well-formed UTF-16.</param>
    /// <param name="start">Index of the word's first character, below the length of the text.</param>
    /// <returns>Index behind the word's last character, above <paramref name="start"/>.</returns>
    public int WordEnd(ReadOnlySpan<char> text, int start)
    {
        char first = text[start];
        Kind kind = KindAt(text, start, out int width);
        int next = start + width;
        if (first == '\'')
        {
            int suffix = ContractionLength(text[next..]);
            if (suffix > 0)
            {
                return next + suffix;
            }
        }

        // [^\r\n\p{L}\p{N}]?\p{L}+
        if (kind == Kind.Letter)
        {
            return RunEnd(text, next, Kind.Letter);
        }

        if (kind is Kind.Other or Kind.Space && next < text.Length && KindAt(text, next, out int letter) == Kind.Letter)
        {
            return RunEnd(text, next + letter, Kind.Letter);
        }

        // \p{N}
        if (kind == Kind.Number)
        {
            return next;
        }

        // ␠?[^\s\p{L}\p{N}]+[\r\n]*
        if (kind == Kind.Other)
        {
            return RunEnd(text, RunEnd(text, next, Kind.Other), Kind.LineBreak);
        }

        if (first == ' ' && next < text.Length && KindAt(text, next, out int other) == Kind.Other)
        {
            return RunEnd(text, RunEnd(text, next + other, Kind.Other), Kind.LineBreak);
        }

        return WhiteSpaceEnd(text, start);
    }

    /// <summary>The last three alternatives, \s*[\r\n]+ | \s+(?!\S) | \s+, on a run of white space (all of it in the basic plane).</summary>
    private int WhiteSpaceEnd(ReadOnlySpan<char> text, int start)
    {
        int end = start;
        int afterLineBreak = 0;
        for (; end < text.Length; end++)
        {
            Kind kind = _basicPlane[text[end]];
            if (kind == Kind.LineBreak)
            {
                afterLineBreak = end + 1;
            }
            else if (kind != Kind.Space)
            {
                break;
            }
        }
        if (afterLineBreak > 0)
        {
            return afterLineBreak;
        }
        // The lookahead leaves the last space to the word behind it, unless it is the only one or nothing follows.
        return end == text.Length || end == start + 1 ? end : end - 1;
    }

    private int RunEnd(ReadOnlySpan<char> text, int at, Kind kind)
    {
        while (at < text.Length && KindAt(text, at, out int width) == kind)
        {
            at += width;
        }

        return at;
    }

    private Kind KindAt(ReadOnlySpan<char> text, int at, out int width)
    {
        char c = text[at];
        if (!char.IsHighSurrogate(c) || at + 1 == text.Length)
        {
            width = 1;
            return _basicPlane[c];
        }
        width = 2;
        return Classify(char.ConvertToUtf32(c, text[at + 1]));
    }

    /// <summary>Length of s, t, re, ve, m, ll or d after an apostrophe, case ignored; 0 where none stands there. ſ (U+017F) folds to s.</summary>
    private static int ContractionLength(ReadOnlySpan<char> rest)
    {
        if (rest.IsEmpty)
        {
            return 0;
        }

        if (rest[0] is 's' or 'S' or 'ſ' or 't' or 'T' or 'm' or 'M' or 'd' or 'D')
        {
            return 1;
        }

        if (rest.Length < 2)
        {
            return 0;
        }

        return ((char)(rest[0] | 0x20), (char)(rest[1] | 0x20)) is ('r', 'e') or ('v', 'e') or ('l', 'l') && char.IsAscii(rest[0]) && char.IsAscii(rest[1])
            ? 2
            : 0;
    }

    private Kind Classify(int code)
    {
        if (code is '\r' or '\n')
        {
            return Kind.LineBreak;
        }

        if (code <= char.MaxValue && char.IsWhiteSpace((char)code))
        {
            return Kind.Space;
        }

        return CharUnicodeInfo.GetUnicodeCategory(code) switch
        {
            UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter or UnicodeCategory.ModifierLetter
                or UnicodeCategory.OtherLetter => Kind.Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
            UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark when _marksAreLetters => Kind.Letter,
            _ => Kind.Other,
        };
    }
}
