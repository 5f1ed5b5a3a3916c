namespace MLNetLora.Jinja;

/// <summary>
/// Reads expressions, with Jinja's own order of operators: <c>or</c>, <c>and</c>, <c>not</c>, comparisons, + −, ~, * / // %, **, signs,
/// then attributes, calls, filters and tests.
/// </summary>
/// <param name="tokens">The template's tokens.</param>
internal sealed partial class ExpressionParser(TokenStream tokens)
{
    private static readonly string[] Comparisons = ["==", "!=", "<", "<=", ">", ">="];

    /// <summary>The names that have been read, by which a macro is known to use varargs or kwargs.</summary>
    public HashSet<string> Names { get; set; } = new(StringComparer.Ordinal);

    /// <summary>An expression.</summary>
    public Expression Parse() => tokens.Nested(Conditional);

    /// <summary>An expression, or several with commas between them, which are a tuple.</summary>
    /// <param name="conditional">Whether <c>a if b else c</c> may stand here without brackets.</param>
    public Expression ParseTuple(bool conditional = true)
    {
        int line = tokens.Current.Line;
        Expression first = conditional ? Parse() : tokens.Nested(Or);
        if (!tokens.Current.IsOperator(","))
        {
            return first;
        }

        List<Expression> items = [first];
        while (tokens.TakeOperator(",") && !EndsTuple())
        {
            items.Add(conditional ? Parse() : tokens.Nested(Or));
        }

        return new ListDisplay(line, items, IsTuple: true);
    }

    /// <summary>One or several filters, the first without its bar, for a filter block.</summary>
    public Expression ParseFilterChain() => Filters(OneFilter(null), first: false);

    /// <summary>The filters behind <c>{% set name</c>; null where there are none.</summary>
    public Expression? ParseSetFilter() => tokens.TakeOperator("|") ? ParseFilterChain() : null;

    private bool EndsTuple() =>
        tokens.Current.Kind is TokenKind.VariableEnd or TokenKind.BlockEnd
        || tokens.Current.IsOperator(")")
        || tokens.Current.IsOperator("=")
        || tokens.Current.IsName("in");

    private Expression Conditional()
    {
        Expression value = Or();
        while (tokens.Current.IsName("if"))
        {
            int line = tokens.Next().Line;
            Expression test = Or();
            value = new Conditional(line, test, value, tokens.TakeName("else") ? Parse() : null);
        }
        return value;
    }

    private Expression Or() => Chain("or", And, isAnd: false);

    private Expression And() => Chain("and", Not, isAnd: true);

    private Expression Chain(string keyword, Func<Expression> operand, bool isAnd)
    {
        int line = tokens.Current.Line;
        Expression first = operand();
        if (!tokens.Current.IsName(keyword))
        {
            return first;
        }

        List<Expression> operands = [first];
        while (tokens.TakeName(keyword))
        {
            operands.Add(operand());
        }

        return new Logical(line, isAnd, operands);
    }

    private Expression Not()
    {
        int line = tokens.Current.Line;
        return tokens.TakeName("not") ? new Unary(line, "not", tokens.Nested(Not)) : Compare();
    }

    private Expression Compare()
    {
        int line = tokens.Current.Line;
        Expression first = Sum();
        List<(string, Expression)> rest = [];
        while (true)
        {
            if (tokens.Current.Kind == TokenKind.Operator && Comparisons.Contains(tokens.Current.Text))
            {
                string text = tokens.Next().Text;
                rest.Add((text, Sum()));
            }
            else if (tokens.TakeName("in"))
            {
                rest.Add(("in", Sum()));
            }
            else if (tokens.Current.IsName("not") && tokens.Following.IsName("in"))
            {
                tokens.Next();
                tokens.Next();
                rest.Add(("not in", Sum()));
            }
            else
            {
                return rest.Count == 0 ? first : new Comparison(line, first, rest);
            }
        }
    }

    private Expression Sum() => LeftToRight(Concatenation, "+", "-");

    private Expression Concatenation()
    {
        int line = tokens.Current.Line;
        Expression first = Product();
        if (!tokens.Current.IsOperator("~"))
        {
            return first;
        }

        List<Expression> operands = [first];
        while (tokens.TakeOperator("~"))
        {
            operands.Add(Product());
        }

        return new Concatenation(line, operands);
    }

    private Expression Product() => LeftToRight(Power, "*", "/", "//", "%");

    private Expression Power() => LeftToRight(() => Signed(filters: true), "**");

    private Expression LeftToRight(Func<Expression> operand, params ReadOnlySpan<string> operators)
    {
        Expression left = operand();
        while (tokens.Current.Kind == TokenKind.Operator && operators.Contains(tokens.Current.Text))
        {
            JinjaToken token = tokens.Next();
            left = new Binary(token.Line, token.Text, left, operand());
        }
        return left;
    }

    private Expression Signed(bool filters)
    {
        JinjaToken token = tokens.Current;
        Expression value = token.IsOperator("-") || token.IsOperator("+")
            ? new Unary(tokens.Next().Line, token.Text, tokens.Nested(() => Signed(filters: false)))
            : Primary();
        value = Postfix(value);
        return filters ? Filters(value, first: true) : value;
    }
}
