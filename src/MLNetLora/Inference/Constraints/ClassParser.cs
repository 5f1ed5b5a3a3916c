using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Globalization;

namespace MLNetLora.Inference.Constraints;

/// <summary>Reads classes ([…]) and escapes of regular expressions.</summary>
/// <param name="pattern">The whole expression.</param>
/// <param name="refused">Makes the error of what is wrong with it.</param>
internal sealed class ClassParser(string pattern, Func<string, ConstraintException> refused)
{
    private static readonly CharacterSet s_digits = CharacterSet.Range('0', '9');
    private static readonly CharacterSet s_word = s_digits.Or(CharacterSet.Range('a', 'z')).Or(CharacterSet.Range('A', 'Z')).Or(CharacterSet.Of("_"));
    private static readonly CharacterSet s_space = CharacterSet.Of(" \t\n\r\f\v");

    private static readonly ConcurrentDictionary<(string Name, bool IsNegated), CharacterSet> s_known = []; // a look at all of Unicode takes milliseconds
    private static readonly CharacterSet s_noDigits = s_digits.Not();
    private static readonly CharacterSet s_noWord = s_word.Not();
    private static readonly CharacterSet s_noSpace = s_space.Not();
    private static readonly Lazy<CharacterSet> s_allDigits = new(() => CharacterSet.Of(UnicodeCategory.DecimalDigitNumber));

    private static readonly Lazy<CharacterSet> s_allWord = new(() => Category("L")!.Or(Category("M")!).Or(Category("N")!).Or(Category("Pc")!)
        .Or(CharacterSet.Of("\u200C\u200D")));

    private static readonly Lazy<CharacterSet> s_allSpace = new(() => Category("Z")!.Or(CharacterSet.Range(9, 13)).Or(CharacterSet.Of("\u0085\uFEFF")));
    private static readonly Lazy<CharacterSet> s_notDigits = new(() => s_allDigits.Value.Not());
    private static readonly Lazy<CharacterSet> s_notWord = new(() => s_allWord.Value.Not());
    private static readonly Lazy<CharacterSet> s_notSpace = new(() => s_allSpace.Value.Not());

    /// <summary>General categories by their short names.</summary>
    private static readonly FrozenDictionary<string, UnicodeCategory> s_categories = new Dictionary<string, UnicodeCategory>
    {
        ["Lu"] = UnicodeCategory.UppercaseLetter,
        ["Ll"] = UnicodeCategory.LowercaseLetter,
        ["Lt"] = UnicodeCategory.TitlecaseLetter,
        ["Lm"] = UnicodeCategory.ModifierLetter,
        ["Lo"] = UnicodeCategory.OtherLetter,
        ["Mn"] = UnicodeCategory.NonSpacingMark,
        ["Mc"] = UnicodeCategory.SpacingCombiningMark,
        ["Me"] = UnicodeCategory.EnclosingMark,
        ["Nd"] = UnicodeCategory.DecimalDigitNumber,
        ["Nl"] = UnicodeCategory.LetterNumber,
        ["No"] = UnicodeCategory.OtherNumber,
        ["Pc"] = UnicodeCategory.ConnectorPunctuation,
        ["Pd"] = UnicodeCategory.DashPunctuation,
        ["Ps"] = UnicodeCategory.OpenPunctuation,
        ["Pe"] = UnicodeCategory.ClosePunctuation,
        ["Pi"] = UnicodeCategory.InitialQuotePunctuation,
        ["Pf"] = UnicodeCategory.FinalQuotePunctuation,
        ["Po"] = UnicodeCategory.OtherPunctuation,
        ["Sm"] = UnicodeCategory.MathSymbol,
        ["Sc"] = UnicodeCategory.CurrencySymbol,
        ["Sk"] = UnicodeCategory.ModifierSymbol,
        ["So"] = UnicodeCategory.OtherSymbol,
        ["Zs"] = UnicodeCategory.SpaceSeparator,
        ["Zl"] = UnicodeCategory.LineSeparator,
        ["Zp"] = UnicodeCategory.ParagraphSeparator,
        ["Cc"] = UnicodeCategory.Control,
        ["Cf"] = UnicodeCategory.Format,
    }.ToFrozenDictionary();

    /// <summary>Reads the class that begins before a place, and goes behind its ].</summary>
    public CharacterSet Class(ref int at)
    {
        bool isNegated = at < pattern.Length && pattern[at] == '^';
        at += isNegated ? 1 : 0;
        HashSet<CharacterSet> narrow = []; // joined at the end, in one go; those that have many ranges are always the same
        HashSet<CharacterSet> wide = [];
        while (true)
        {
            if (at >= pattern.Length)
            {
                throw refused("has a [ without a ]");
            }

            if (pattern[at] == ']')
            {
                at++;
                break;
            }

            Escaped first = Member(ref at);
            if (at + 1 < pattern.Length && pattern[at] == '-' && pattern[at + 1] != ']')
            {
                at++;
                Escaped last = Member(ref at);
                if (first.Character is not { } from || last.Character is not { } to || to < from)
                {
                    throw refused("has a range in […] that ends before it begins, or is of whole classes");
                }

                CharacterSet range = CharacterSet.Range(from, to);
                first = new Escaped(range, range, null);
            }

            narrow.Add(first.Narrow);
            wide.Add(first.Wide);
        }

        CharacterSet set = isNegated ? CharacterSet.AnyOf(wide).Not() : CharacterSet.AnyOf(narrow);
        return set.IsEmpty ? throw refused("has a class […] without any character") : set;
    }

    /// <summary>Reads the escape that begins at a place, and goes behind it.</summary>
    public Escaped Escape(ref int at, bool inClass)
    {
        char c = at + 1 < pattern.Length ? pattern[at + 1] : throw refused("ends with a backslash");
        at += 2;
        switch (c)
        {
            case 'd': return new Escaped(s_digits, s_allDigits.Value, null);
            case 'D': return new Escaped(s_notDigits.Value, s_noDigits, null);
            case 'w': return new Escaped(s_word, s_allWord.Value, null);
            case 'W': return new Escaped(s_notWord.Value, s_noWord, null);
            case 's': return new Escaped(s_space, s_allSpace.Value, null);
            case 'S': return new Escaped(s_notSpace.Value, s_noSpace, null);
            case 'n': return One('\n');
            case 'r': return One('\r');
            case 't': return One('\t');
            case 'f': return One('\f');
            case 'v': return One('\v');
            case 'b' when inClass: return One('\b');
            case '0' when at >= pattern.Length || !char.IsAsciiDigit(pattern[at]): return One(0);
            case 'x': return One(Hexadecimal(ref at, 2));
            case 'u': return One(CodePoint(ref at));
            case 'p' or 'P': return Property(ref at, isNegated: c == 'P');
            case 'c' when at < pattern.Length && char.IsAsciiLetter(pattern[at]): return One(pattern[at++] % 32);
            default:
                return char.IsAsciiLetterOrDigit(c) || char.IsSurrogate(c) ? throw refused($@"holds \{c}, which is not known") : One(c);
        }
    }

    private static Escaped One(int character)
    {
        CharacterSet set = CharacterSet.Range(character, character);
        return new Escaped(set, set, character);
    }

    /// <summary>A general category or a group of them, by its short name; null where there is none.</summary>
    private static CharacterSet? Category(string name, bool isNegated = false)
    {
        if (s_known.TryGetValue((name, isNegated), out CharacterSet? known))
        {
            return known;
        }

        UnicodeCategory[] found = [.. s_categories.Where(category => category.Key == name || (name.Length == 1 && category.Key[0] == name[0]))
            .Select(category => category.Value)];
        if (found.Length == 0)
        {
            return null;
        }

        CharacterSet set = CharacterSet.Of(found);
        return s_known.GetOrAdd((name, isNegated), isNegated ? set.Not() : set);
    }

    private Escaped Member(ref int at)
    {
        if (pattern[at] == '\\')
        {
            return Escape(ref at, inClass: true);
        }

        int rune = char.ConvertToUtf32(pattern, at);
        at += rune > char.MaxValue ? 2 : 1;
        return One(rune);
    }

    private Escaped Property(ref int at, bool isNegated)
    {
        int end = at < pattern.Length && pattern[at] == '{' ? pattern.IndexOf('}', at) : -1;
        string name = end < 0 ? "" : pattern[(at + 1)..end];
        name = name[(name.IndexOf('=') is var equals && name[..Math.Max(0, equals)] is "gc" or "General_Category" ? equals + 1 : 0)..];
        CharacterSet set = Category(name, isNegated)
            ?? throw refused($@"holds \{(isNegated ? 'P' : 'p')}{{{name}}}; of properties the general categories are known: L, Lu, Nd, …");
        at = end + 1;
        return new Escaped(set, set, null);
    }

    private int CodePoint(ref int at)
    {
        if (at < pattern.Length && pattern[at] == '{')
        {
            int end = pattern.IndexOf('}', at);
            int from = at + 1;
            int length = end - from;
            int value = length is >= 1 and <= 8 ? Hexadecimal(ref from, length) : -1;
            at = end + 1;
            return value is >= 0 and <= 0x10FFFF and not (>= 0xD800 and <= 0xDFFF) ? value : throw refused(@"has a \u{…} that is no character");
        }

        int high = Hexadecimal(ref at, 4);
        if (high is < 0xD800 or > 0xDFFF)
        {
            return high;
        }

        if (high <= 0xDBFF && pattern.AsSpan(at).StartsWith(@"\u"))
        {
            int next = at + 2;
            int low = Hexadecimal(ref next, 4);
            if (low is >= 0xDC00 and <= 0xDFFF)
            {
                at = next;
                return char.ConvertToUtf32((char)high, (char)low);
            }
        }

        throw refused(@"has a \u… that is half of a surrogate pair");
    }

    private int Hexadecimal(ref int at, int digits)
    {
        if (at + digits > pattern.Length
            || !int.TryParse(pattern.AsSpan(at, digits), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int value))
        {
            throw refused($@"has an escape that needs {digits} hexadecimal digits");
        }

        at += digits;
        return value;
    }

    /// <summary>What an escape stands for.</summary>
    /// <param name="Narrow">The characters that every dialect takes it for.</param>
    /// <param name="Wide">Those that any dialect takes it for.</param>
    /// <param name="Character">The character, where it is one.</param>
    internal readonly record struct Escaped(CharacterSet Narrow, CharacterSet Wide, int? Character);
}
