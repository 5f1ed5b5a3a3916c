using System.Globalization;

namespace MLNetLora.Inference.Constraints;

/// <summary>
/// Reads regular expressions in the syntax that JSON schemas use (ECMA-262 with the flag u). What the dialects read differently is taken so that all agree with
/// what is written: \d, \w and \s are those of ASCII, what is not \d, \w or \s is none of Unicode's either.
/// </summary>
/// <param name="pattern">The expression.</param>
internal sealed class PatternParser(string pattern)
{
    private const int LongestPattern = 8192;
    private const int DeepestGroup = 100;
    private const int LargestCounter = 100_000;
    private const int MostExpanded = 100_000;
    private const int Shown = 100;

    private int _at;
    private int _depth;

    /// <summary>The whole text matches; anchors at the ends mean nothing more.</summary>
    /// <exception cref="ConstraintException">It is no regular expression, or holds what cannot be held to.</exception>
    public Pattern Whole() => new Anchors(Parse(), Refused).Whole();

    /// <summary>Somewhere in the text there is a match.</summary>
    /// <exception cref="ConstraintException">It is no regular expression, or holds what cannot be held to.</exception>
    public Pattern Search() => new Anchors(Parse(), Refused).Search();

    private static string Short(string text) => text.Length <= Shown ? text : text[..Shown] + "…";

    private ConstraintException Refused(string what) => new($"The regular expression '{Short(pattern)}' {what}.");

    private Pattern Parse()
    {
        if (pattern.Length > LongestPattern)
        {
            throw Refused($"has {pattern.Length} characters; at most {LongestPattern} are taken");
        }

        if (Text.UnicodeText.UnpairedSurrogates(pattern) > 0)
        {
            throw Refused("holds half of a surrogate pair");
        }

        Pattern parsed = Choice();
        if (_at < pattern.Length)
        {
            throw Refused("has a ) without a (");
        }

        if (Expanded(parsed) > MostExpanded)
        {
            throw Refused($"repeats repetitions: written out it has more than {MostExpanded} parts");
        }

        return parsed;
    }

    /// <summary>How large it is with nested counters written out; one counter alone costs nothing.</summary>
    private static long Expanded(Pattern part, bool isInside = false) => part switch
    {
        Pattern.Sequence sequence => Math.Min(int.MaxValue, 1 + sequence.Parts.Sum(item => Expanded(item, isInside))),
        Pattern.Choice choice => Math.Min(int.MaxValue, 1 + choice.Parts.Sum(item => Expanded(item, isInside))),
        Pattern.Repeat { Part: Pattern.Set } when !isInside => 1,
        Pattern.Repeat repeat => Math.Min(int.MaxValue, Math.Max(1, repeat.Max == Term.Unlimited ? repeat.Min : repeat.Max) * Expanded(repeat.Part, true)),
        _ => 1,
    };

    private Pattern Choice()
    {
        if (++_depth > DeepestGroup)
        {
            throw Refused($"nests groups deeper than {DeepestGroup}");
        }

        List<Pattern> parts = [Sequence()];
        while (Take('|'))
        {
            parts.Add(Sequence());
        }

        _depth--;
        return parts.Count == 1 ? parts[0] : new Pattern.Choice(parts);
    }

    private Pattern Sequence()
    {
        List<Pattern> parts = [];
        while (_at < pattern.Length && pattern[_at] is not ('|' or ')'))
        {
            parts.Add(Quantified(Atom()));
        }

        return parts.Count == 1 ? parts[0] : new Pattern.Sequence(parts);
    }

    private Pattern Quantified(Pattern part)
    {
        (int Min, int Max)? count = Take('*') ? (0, Term.Unlimited) : Take('+') ? (1, Term.Unlimited) : Take('?') ? (0, 1) : Braces();
        if (count is not { } range)
        {
            return part;
        }

        if (Take('+'))
        {
            throw Refused("holds a possessive quantifier, which cannot be held to; write it without the second +");
        }

        _ = Take('?'); // lazy or greedy, it matches the same texts
        if (part is Pattern.Anchor)
        {
            throw Refused("repeats an anchor");
        }

        if (_at < pattern.Length && pattern[_at] is '*' or '+' or '?')
        {
            throw Refused($"has a {pattern[_at]} behind another quantifier");
        }

        return new Pattern.Repeat(part, range.Min, range.Max);
    }

    /// <summary>{m}, {m,} or {m,n}; null where the brace is none of them, and then is itself.</summary>
    private (int Min, int Max)? Braces()
    {
        int end = _at < pattern.Length && pattern[_at] == '{' ? pattern.IndexOf('}', _at) : -1;
        string[] numbers = end < 0 ? [] : pattern[(_at + 1)..end].Split(',');
        if (numbers.Length is not (1 or 2) || numbers[0].Length == 0 || !numbers.All(number => number.All(char.IsAsciiDigit)))
        {
            return null;
        }

        int min = Number(numbers[0]);
        int max = numbers.Length == 1 ? min : numbers[1].Length == 0 ? Term.Unlimited : Number(numbers[1]);
        if (max < min)
        {
            throw Refused($"has the counter {pattern[_at..(end + 1)]}, which ends before it begins");
        }

        _at = end + 1;
        return (min, max);

        int Number(string digits) => int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number <= LargestCounter
            ? number
            : throw Refused($"has a counter above {LargestCounter}");
    }

    private Pattern Atom()
    {
        char c = pattern[_at];
        switch (c)
        {
            case '(': return Group();
            case '[':
                _at++;
                return new Pattern.Set(new ClassParser(pattern, Refused).Class(ref _at));
            case '.':
                _at++;
                return new Pattern.Set(CharacterSet.Of("\n\r\u2028\u2029").Not());
            case '^' or '$':
                _at++;
                return new Pattern.Anchor(c == '$');
            case '*' or '+' or '?': throw Refused($"has a {c} with nothing before it");
            case '{' when Braces() is not null: throw Refused("has a counter with nothing before it");
            case '\\': return Escape();
            default:
                int rune = char.ConvertToUtf32(pattern, _at);
                _at += rune > char.MaxValue ? 2 : 1;
                return new Pattern.Set(CharacterSet.Range(rune, rune));
        }
    }

    private Pattern.Set Escape()
    {
        char c = _at + 1 < pattern.Length ? pattern[_at + 1] : throw Refused("ends with a backslash");
        switch (c)
        {
            case 'b' or 'B': throw Refused($@"holds \{c}, a word boundary, which cannot be held to");
            case >= '1' and <= '9' or 'k': throw Refused($@"holds \{c}, a backreference, which no regular language has");
            case 'A' or 'Z' or 'z' or 'G': throw Refused($@"holds \{c}, an anchor of other dialects; write ^ or $");
            default: return new Pattern.Set(new ClassParser(pattern, Refused).Escape(ref _at, inClass: false).Narrow);
        }
    }

    private Pattern Group()
    {
        ReadOnlySpan<char> rest = pattern.AsSpan(_at);
        if (!rest.StartsWith("(?"))
        {
            _at++;
        }
        else if (rest.StartsWith("(?:"))
        {
            _at += 3;
        }
        else if (rest.StartsWith("(?=") || rest.StartsWith("(?!"))
        {
            throw Refused($"holds {rest[..3]}…), a lookahead, which cannot be held to; say in the expression itself what may come");
        }
        else if (rest.StartsWith("(?<=") || rest.StartsWith("(?<!"))
        {
            throw Refused($"holds {rest[..4]}…), a lookbehind, which cannot be held to; say in the expression itself what may come");
        }
        else if ((rest.StartsWith("(?<") || rest.StartsWith("(?P<")) && rest.Contains('>'))
        {
            _at += rest.IndexOf('>') + 1; // the name of a group
        }
        else
        {
            throw Refused($"holds {rest[..Math.Min(4, rest.Length)]}, which is not taken: flags, conditions and atomic groups are not");
        }

        Pattern inside = Choice();
        return Take(')') ? inside : throw Refused("has a ( without a )");
    }

    private bool Take(char c)
    {
        bool isThere = _at < pattern.Length && pattern[_at] == c;
        _at += isThere ? 1 : 0;
        return isThere;
    }
}
