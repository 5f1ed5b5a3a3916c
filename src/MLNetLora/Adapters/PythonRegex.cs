using System.Buffers;
using System.Text;
using System.Text.RegularExpressions;

namespace MLNetLora.Adapters;

/// <summary>
/// Regular expressions as Python's re reads them, for names of modules: PEFT's target_modules, exclude_modules, rank_pattern and alpha_pattern. What .NET reads
/// otherwise is rewritten ({,2}, (?P&lt;n&gt;…), \Z, a bracket inside brackets) or, where Python knows no such thing or few people do, refused.
/// </summary>
internal static class PythonRegex
{
    // .NET's parser descends into brackets by recursion: some ten thousand of them end the process.
    private const int LongestPattern = 16_384;
    private const int MostBrackets = 1000;
    private const int Shown = 200;

    /// <summary>The expression that matches whole names.</summary>
    /// <param name="pattern">As PEFT has it.</param>
    /// <param name="before">What may stand before it in a name, in .NET's spelling.</param>
    /// <param name="patience">How long one match may take.</param>
    /// <exception cref="AdapterException">It is not one of Python's, or one that is not read.</exception>
    public static Regex Whole(string pattern, string before, TimeSpan patience)
    {
        if (pattern.Length > LongestPattern || pattern.AsSpan().Count('[') > MostBrackets)
        {
            throw new AdapterException($"'{Short(pattern)}' is longer than {LongestPattern} characters or has more than {MostBrackets} brackets; write it more "
                + "simply, or as a list of names.");
        }

        string translated = new Translation(pattern).Text();
        try
        {
            return new Regex($@"^{before}(?:{translated})$", RegexOptions.CultureInvariant, patience);
        }
        catch (ArgumentException e)
        {
            throw new AdapterException($"'{Short(pattern)}' is not a regular expression: {Short(e.Message)}", e);
        }
    }

    /// <summary>A text for a message.</summary>
    internal static string Short(string text) => text.Length <= Shown ? text : text[..Shown] + "…";

    private sealed class Translation(string pattern)
    {
        private static readonly SearchValues<char> s_hexadecimals = SearchValues.Create("0123456789abcdefABCDEF");

        private readonly StringBuilder _text = new();
        private int _at;

        public string Text()
        {
            while (_at < pattern.Length)
            {
                switch (pattern[_at])
                {
                    case '\\': Escape(inClass: false); break;
                    case '[': Class(); break;
                    case '(': Group(); break;
                    case '{': Braces(); break;
                    default: Take(1); break;
                }
            }

            return _text.ToString();
        }

        private char Next => _at < pattern.Length ? pattern[_at] : '\0';

        private void Take(int count)
        {
            _text.Append(pattern, _at, count);
            _at += count;
        }

        private void Escape(bool inClass)
        {
            if (_at + 1 == pattern.Length)
            {
                throw Refused("ends with a backslash");
            }

            char c = pattern[_at + 1];
            if (c is 'd' or 'D' or 's' or 'S' or 'w' or 'W' or 'n' or 'r' or 't' or 'f' or 'v' or 'b' || (!inClass && c is 'A' or 'B')
                || !char.IsAsciiLetterOrDigit(c))
            {
                Take(2);
            }
            else if (!inClass && c == 'Z')
            {
                _text.Append(@"\z");
                _at += 2;
            }
            else if (c is 'x' or 'u' && Hexadecimals(c == 'x' ? 2 : 4))
            {
                Take(c == 'x' ? 4 : 6);
            }
            else
            {
                throw Refused($@"holds \{c}, which Python does not know or counts otherwise than .NET");
            }
        }

        private bool Hexadecimals(int count) =>
            pattern.Length >= _at + 2 + count && pattern.AsSpan(_at + 2, count).IndexOfAnyExcept(s_hexadecimals) < 0;

        /// <summary>[…]; a bracket inside is itself, where .NET would subtract a class.</summary>
        private void Class()
        {
            Take(1);
            if (Next == '^')
            {
                Take(1);
            }

            for (bool first = true; first || Next != ']'; first = false)
            {
                switch (Next)
                {
                    case '\0' when _at >= pattern.Length: throw Refused("has a [ without a ]");
                    case '\\': Escape(inClass: true); break;
                    case '[' or ']':
                        _text.Append('\\');
                        Take(1);
                        break;
                    default: Take(1); break;
                }
            }

            Take(1);
        }

        private void Group()
        {
            ReadOnlySpan<char> rest = pattern.AsSpan(_at);
            if (!rest.StartsWith("(?"))
            {
                Take(1);
            }
            else if (rest.StartsWith("(?P<"))
            {
                _text.Append("(?<");
                _at += "(?P<".Length;
            }
            else if (rest.StartsWith("(?P="))
            {
                int end = rest.IndexOf(')');
                string name = end < 0 ? "" : rest["(?P=".Length..end].ToString();
                if (name.Length == 0 || !name.All(c => char.IsAsciiLetterOrDigit(c) || c == '_'))
                {
                    throw Refused("has a (?P= without a name");
                }

                _text.Append(System.Globalization.CultureInfo.InvariantCulture, $@"\k<{name}>");
                _at += end + 1;
            }
            else if (rest.Length > 2 && rest[2] is ':' or '=' or '!' or '>' || rest.StartsWith("(?<=") || rest.StartsWith("(?<!"))
            {
                Take(3);
            }
            else
            {
                throw Refused($"holds {rest[..Math.Min(4, rest.Length)]}, which Python does not know or reads otherwise than .NET");
            }
        }

        /// <summary>{m}, {m,n}, {m,} and {,n}; anything else is itself.</summary>
        private void Braces()
        {
            int end = pattern.IndexOf('}', _at);
            string[] numbers = end < 0 ? [] : pattern[(_at + 1)..end].Split(',');
            bool isCount = numbers.Length is 1 or 2 && numbers.All(number => number.All(char.IsAsciiDigit)) && (numbers.Length == 2 || numbers[0].Length > 0);
            if (!isCount)
            {
                _text.Append('\\');
                Take(1);
                return;
            }

            _text.Append('{').Append(numbers[0].Length == 0 ? "0" : numbers[0]);
            _text.Append(numbers.Length == 2 ? "," + numbers[1] : "").Append('}');
            _at = end + 1;
        }

        private AdapterException Refused(string what) => new($"The regular expression '{Short(pattern)}' {what}; write it otherwise, or as a list of names.");
    }
}
