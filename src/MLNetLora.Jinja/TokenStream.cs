namespace MLNetLora.Jinja;

/// <summary>The tokens of a template with a place in them, and the nesting that is read there.</summary>
internal sealed class TokenStream(IReadOnlyList<JinjaToken> tokens)
{
    private const int DepthLimit = 100;

    private int _at;
    private int _depth;

    /// <summary>The token at the place.</summary>
    public JinjaToken Current => tokens[_at];

    /// <summary>The token behind it.</summary>
    public JinjaToken Following => tokens[Math.Min(_at + 1, tokens.Count - 1)];

    /// <summary>Takes the token at the place.</summary>
    public JinjaToken Next()
    {
        JinjaToken token = Current;
        if (token.Kind != TokenKind.End)
        {
            _at++;
        }

        return token;
    }

    /// <summary>Takes an operator if it stands here.</summary>
    public bool TakeOperator(string text)
    {
        bool found = Current.IsOperator(text);
        _at += found ? 1 : 0;
        return found;
    }

    /// <summary>Takes a keyword if it stands here.</summary>
    public bool TakeName(string text)
    {
        bool found = Current.IsName(text);
        _at += found ? 1 : 0;
        return found;
    }

    /// <summary>Takes an operator that must stand here.</summary>
    public void ExpectOperator(string text)
    {
        if (!TakeOperator(text))
        {
            throw Error($"'{text}' is expected, not {Current.Describe()}");
        }
    }

    /// <summary>Takes a name that must stand here.</summary>
    public string ExpectName() => Current.Kind == TokenKind.Name ? Next().Text : throw Error($"a name is expected, not {Current.Describe()}");

    /// <summary>Takes a token of a kind that must stand here.</summary>
    public void Expect(TokenKind kind)
    {
        if (Current.Kind != kind)
        {
            throw Error($"{(kind == TokenKind.BlockEnd ? "%}" : "}}")} is expected, not {Current.Describe()}");
        }

        _at++;
    }

    /// <summary>Reads something one level deeper: a template can nest brackets without end, a stack cannot.</summary>
    public T Nested<T>(Func<T> read)
    {
        if (++_depth > DepthLimit)
        {
            throw Error($"more than {DepthLimit} levels of nesting");
        }

        T result = read();
        _depth--;
        return result;
    }

    /// <summary>What is wrong at the place.</summary>
    public JinjaException Error(string what) => Error(what, Current.Line);

    /// <summary>What is wrong on a line.</summary>
    public static JinjaException Error(string what, int line) => new(what, line);
}
