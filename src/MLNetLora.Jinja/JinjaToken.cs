namespace MLNetLora.Jinja;

/// <summary>What a token of a template is.</summary>
internal enum TokenKind
{
    /// <summary>Text between the tags, as it is written out.</summary>
    Data,

    /// <summary>{{.</summary>
    VariableBegin,

    /// <summary>}}.</summary>
    VariableEnd,

    /// <summary>{%.</summary>
    BlockBegin,

    /// <summary>%}.</summary>
    BlockEnd,

    /// <summary>A name or keyword.</summary>
    Name,

    /// <summary>A string literal, its escapes resolved.</summary>
    String,

    /// <summary>A whole number, in decimal digits.</summary>
    Integer,

    /// <summary>A number with a point or exponent.</summary>
    Float,

    /// <summary>An operator or bracket.</summary>
    Operator,

    /// <summary>The end of the template.</summary>
    End,
}

/// <summary>A token of a template.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Text">Its text.</param>
/// <param name="Line">Its line, from 1.</param>
internal readonly record struct JinjaToken(TokenKind Kind, string Text, int Line)
{
    /// <summary>Whether it is a keyword or name.</summary>
    public bool IsName(string name) => Kind == TokenKind.Name && Text == name;

    /// <summary>Whether it is an operator.</summary>
    public bool IsOperator(string text) => Kind == TokenKind.Operator && Text == text;

    /// <summary>How messages call it.</summary>
    public string Describe() => Kind switch
    {
        TokenKind.End => "the end of the template",
        TokenKind.BlockEnd => "%}",
        TokenKind.VariableEnd => "}}",
        TokenKind.String => "a string",
        _ => $"'{(Text.Length <= 40 ? Text : Text[..40] + "…")}'",
    };
}
