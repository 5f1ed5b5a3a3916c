using System.Globalization;
using System.Text;

namespace MLNetLora.Jinja;

/// <summary>
/// Cuts a template into tokens with the settings of transformers: trim_blocks (the line break behind a block tag or comment goes), lstrip_blocks (so does white
/// space between a line's beginning and such a tag), and no line break at the template's end. The signs in <c>{%-</c>, <c>{%+</c>, <c>-%}</c> and
/// <c>+%}</c> overrule both.
/// </summary>
internal sealed class JinjaLexer
{
    private static readonly string[] Operators =
    [
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";",
    ];

    private readonly string _source;
    private readonly List<JinjaToken> _tokens = [];
    private int _at;
    private int _counted;
    private int _line = 1;

    private JinjaLexer(string source) => _source = source;

    /// <summary>The tokens of a template, <see cref="TokenKind.End"/> last.</summary>
    /// <exception cref="JinjaException">A tag, comment or string is not closed, or a character has no meaning.</exception>
    public static List<JinjaToken> Tokenize(string source)
    {
        source = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        if (source.EndsWith('\n'))
        {
            source = source[..^1];
        }

        JinjaLexer lexer = new(source);
        lexer.Root();
        lexer.Emit(TokenKind.End, "");
        return lexer._tokens;
    }

    /// <summary>Python's white space: .NET's, and the four separators U+001C to U+001F.</summary>
    public static bool IsWhiteSpace(char value) => char.IsWhiteSpace(value) || value is >= '\x1C' and <= '\x1F';

    private void Root()
    {
        bool lineStarting = true;
        while (_at < _source.Length)
        {
            int tag = NextTag(_at);
            if (tag < 0)
            {
                Emit(TokenKind.Data, _source[_at..]);
                _at = _source.Length;
                return;
            }
            char kind = _source[tag + 1];
            char sign = Sign(tag + 2);
            Text(_at, tag, sign, strip: kind != '{', lineStarting);
            _at = tag + (sign == ' ' ? 2 : 3);
            if (kind == '#')
            {
                Comment();
            }
            else if (kind == '%' && RawBegins())
            {
                Raw();
            }
            else if (kind == '%')
            {
                Tag(TokenKind.BlockBegin, TokenKind.BlockEnd, "%}");
            }
            else
            {
                Tag(TokenKind.VariableBegin, TokenKind.VariableEnd, "}}");
            }

            lineStarting = _source[_at - 1] == '\n';
        }
    }

    private int NextTag(int from)
    {
        for (int at = _source.IndexOf('{', from); at >= 0 && at + 1 < _source.Length; at = _source.IndexOf('{', at + 1))
        {
            if (_source[at + 1] is '{' or '%' or '#')
            {
                return at;
            }
        }
        return -1;
    }

    private char Sign(int at) => at < _source.Length && _source[at] is '-' or '+' ? _source[at] : ' ';

    /// <summary>Emits the text before a tag, without what the tag's sign or lstrip_blocks takes away.</summary>
    private void Text(int start, int end, char sign, bool strip, bool lineStarting)
    {
        int kept = end;
        if (sign == '-')
        {
            while (kept > start && IsWhiteSpace(_source[kept - 1]))
            {
                kept--;
            }
        }
        else if (sign != '+' && strip)
        {
            int line = end;
            while (line > start && _source[line - 1] != '\n' && IsWhiteSpace(_source[line - 1]))
            {
                line--;
            }

            if (line > start ? _source[line - 1] == '\n' : lineStarting)
            {
                kept = line;
            }
        }
        if (kept > start)
        {
            Emit(TokenKind.Data, _source[start..kept]);
        }
    }

    private void Comment()
    {
        int end = _source.IndexOf("#}", _at, StringComparison.Ordinal);
        if (end < 0)
        {
            throw Error("a comment {# is not closed with #}");
        }

        char sign = end > _at ? Sign(end - 1) : ' ';
        _at = end + 2;
        AfterTag(sign);
    }

    private bool RawBegins()
    {
        int at = SkipWhiteSpace(_at);
        if (string.CompareOrdinal(_source, at, "raw", 0, 3) != 0)
        {
            return false;
        }

        at = SkipWhiteSpace(at + 3);
        char sign = Sign(at) == '-' ? '-' : ' ';
        at += sign == '-' ? 1 : 0;
        if (string.CompareOrdinal(_source, at, "%}", 0, 2) != 0)
        {
            return false;
        }

        _at = sign == '-' ? SkipWhiteSpace(at + 2) : at + 2;
        return true;
    }

    private void Raw()
    {
        int start = _at;
        for (int tag = _source.IndexOf("{%", _at, StringComparison.Ordinal); tag >= 0; tag = _source.IndexOf("{%", tag + 1, StringComparison.Ordinal))
        {
            char sign = Sign(tag + 2);
            int at = SkipWhiteSpace(tag + (sign == ' ' ? 2 : 3));
            if (string.CompareOrdinal(_source, at, "endraw", 0, 6) != 0)
            {
                continue;
            }

            at = SkipWhiteSpace(at + 6);
            char endSign = Sign(at);
            at += endSign == ' ' ? 0 : 1;
            if (string.CompareOrdinal(_source, at, "%}", 0, 2) != 0)
            {
                continue;
            }

            Text(start, tag, sign, strip: true, lineStarting: _source[start - 1] == '\n');
            _at = at + 2;
            AfterTag(endSign);
            return;
        }
        throw Error("a {% raw %} is not closed with {% endraw %}");
    }

    /// <summary>What goes behind a block tag or comment: all white space with a minus, one line break without a sign.</summary>
    private void AfterTag(char sign)
    {
        if (sign == '-')
        {
            _at = SkipWhiteSpace(_at);
        }
        else if (sign != '+' && _at < _source.Length && _source[_at] == '\n')
        {
            _at++;
        }
    }

    private void Tag(TokenKind begin, TokenKind end, string close)
    {
        Emit(begin, "");
        int opened = _line;
        Stack<char> brackets = new();
        while (true)
        {
            _at = SkipWhiteSpace(_at);
            if (_at >= _source.Length)
            {
                throw new JinjaException($"a {(end == TokenKind.BlockEnd ? "{%" : "{{")} is not closed with {close}", opened);
            }

            char sign = end == TokenKind.VariableEnd && _source[_at] == '+' ? ' ' : Sign(_at);
            if (brackets.Count == 0 && string.CompareOrdinal(_source, _at + (sign == ' ' ? 0 : 1), close, 0, 2) == 0)
            {
                Emit(end, close);
                _at += sign == ' ' ? 2 : 3;
                if (end == TokenKind.BlockEnd)
                {
                    AfterTag(sign);
                }
                else if (sign == '-')
                {
                    _at = SkipWhiteSpace(_at);
                }

                return;
            }
            char value = _source[_at];
            if (value is '\'' or '"')
            {
                StringLiteral(value);
            }
            else if (char.IsAsciiDigit(value))
            {
                Number();
            }
            else if (value == '_' || char.IsLetter(value))
            {
                Name();
            }
            else
            {
                Operator(brackets);
            }
        }
    }

    private void Name()
    {
        int start = _at;
        while (_at < _source.Length && (_source[_at] == '_' || char.IsLetterOrDigit(_source[_at])))
        {
            _at++;
        }

        Emit(TokenKind.Name, _source[start.._at], start);
    }

    private void Number()
    {
        int start = _at;
        int radix = _source[_at] != '0' || _at + 1 >= _source.Length ? 10 : (_source[_at + 1] | 0x20) switch { 'x' => 16, 'o' => 8, 'b' => 2, _ => 10 };
        if (radix != 10)
        {
            _at += 2;
            while (_at < _source.Length && (char.IsAsciiHexDigit(_source[_at]) || _source[_at] == '_'))
            {
                _at++;
            }

            try
            {
                string written = _source[(start + 2).._at].Replace("_", "", StringComparison.Ordinal);
                Emit(TokenKind.Integer, Convert.ToInt64(written, radix).ToString(CultureInfo.InvariantCulture), start);
                return;
            }
            catch (Exception error) when (error is FormatException or OverflowException or ArgumentException)
            {
                throw Error($"'{_source[start.._at]}' is not a number");
            }
        }
        Digits();
        bool fraction = false;
        // A number behind a dot is an index (messages.0.content), never the beginning of a fraction.
        if (start == 0 || _source[start - 1] != '.')
        {
            if (_at + 1 < _source.Length && _source[_at] == '.' && char.IsAsciiDigit(_source[_at + 1]))
            {
                fraction = true;
                _at++;
                Digits();
            }
            int exponent = _at + 1 < _source.Length && _source[_at] is 'e' or 'E' ? _at + (_source[_at + 1] is '+' or '-' ? 2 : 1) : _source.Length;
            if (exponent < _source.Length && char.IsAsciiDigit(_source[exponent]))
            {
                fraction = true;
                _at = exponent;
                Digits();
            }
        }
        string digits = _source[start.._at].Replace("_", "", StringComparison.Ordinal);
        if (!fraction && !long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out _))
        {
            throw Error($"the number '{(digits.Length <= 40 ? digits : digits[..40] + "…")}' is too large");
        }

        Emit(fraction ? TokenKind.Float : TokenKind.Integer, digits, start);
    }

    private void Digits()
    {
        while (IsDigit(_at) || (_at < _source.Length && _source[_at] == '_' && IsDigit(_at + 1)))
        {
            _at++;
        }
    }

    private void StringLiteral(char quote)
    {
        int start = _at;
        StringBuilder text = new();
        for (_at++; ; _at++)
        {
            if (_at >= _source.Length)
            {
                _at = start;
                throw Error($"a string is not closed with {quote}");
            }
            if (_source[_at] == quote)
            {
                break;
            }

            if (_source[_at] == '\\' && _at + 1 < _source.Length)
            {
                _at = PythonEscape.Append(_source, _at + 1, text) - 1;
            }
            else
            {
                text.Append(_source[_at]);
            }
        }
        _at++;
        Emit(TokenKind.String, text.ToString(), start);
    }

    private void Operator(Stack<char> brackets)
    {
        string? found = Array.Find(Operators, text => string.CompareOrdinal(_source, _at, text, 0, text.Length) == 0);
        if (found is null)
        {
            throw Error($"the character '{_source[_at]}' has no meaning here");
        }

        if (found is "(" or "[" or "{")
        {
            brackets.Push(found[0] switch { '(' => ')', '[' => ']', _ => '}' });
        }
        else if (found is ")" or "]" or "}" && (!brackets.TryPop(out char expected) || expected != found[0]))
        {
            throw Error($"'{found}' closes nothing");
        }

        Emit(TokenKind.Operator, found);
        _at += found.Length;
    }

    private int SkipWhiteSpace(int at)
    {
        while (at < _source.Length && IsWhiteSpace(_source[at]))
        {
            at++;
        }

        return at;
    }

    private bool IsDigit(int at) => at < _source.Length && char.IsAsciiDigit(_source[at]);

    private void Emit(TokenKind kind, string text, int? start = null)
    {
        int at = start ?? _at;
        _line += _source.AsSpan(_counted, at - _counted).Count('\n');
        _counted = at;
        _tokens.Add(new JinjaToken(kind, text, _line));
    }

    private JinjaException Error(string what) => new(what, 1 + _source.AsSpan(0, Math.Min(_at, _source.Length)).Count('\n'));
}
