using System.Globalization;

namespace MLNetLora.Text.Jinja;

/// <summary>Reads expressions, with Jinja's own order of operators: <c>or</c>, <c>and</c>, <c>not</c>, comparisons, + −, ~, * / // %, **, signs, then attributes, calls, filters and tests.</summary>
/// <param name="tokens">The template's tokens.</param>
internal sealed class ExpressionParser(TokenStream tokens)
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
            return first;
        List<Expression> items = [first];
        while (tokens.TakeOperator(",") && !EndsTuple())
            items.Add(conditional ? Parse() : tokens.Nested(Or));
        return new ListDisplay(line, items, IsTuple: true);
    }

    /// <summary>One or several filters, the first without its bar, for a filter block.</summary>
    public Expression ParseFilterChain() => Filters(OneFilter(null), first: false);

    /// <summary>The filters behind <c>{% set name</c>; null where there are none.</summary>
    public Expression? ParseSetFilter() => tokens.TakeOperator("|") ? ParseFilterChain() : null;

    private bool EndsTuple() =>
        tokens.Current.Kind is TokenKind.VariableEnd or TokenKind.BlockEnd || tokens.Current.IsOperator(")") || tokens.Current.IsOperator("=") || tokens.Current.IsName("in");

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
            return first;
        List<Expression> operands = [first];
        while (tokens.TakeName(keyword))
            operands.Add(operand());
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
            return first;
        List<Expression> operands = [first];
        while (tokens.TakeOperator("~"))
            operands.Add(Product());
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

    private Expression Primary()
    {
        JinjaToken token = tokens.Next();
        switch (token.Kind)
        {
            case TokenKind.Name:
                Names.Add(token.Text);
                return token.Text switch
                {
                    "true" or "True" => new Constant(token.Line, true),
                    "false" or "False" => new Constant(token.Line, false),
                    "none" or "None" => new Constant(token.Line, null),
                    _ => new Variable(token.Line, token.Text),
                };
            case TokenKind.String:
                string text = token.Text;
                while (tokens.Current.Kind == TokenKind.String)
                    text += tokens.Next().Text;
                return new Constant(token.Line, new TaggedText(text, Origin.Template));
            case TokenKind.Integer:
                return new Constant(token.Line, long.Parse(token.Text, CultureInfo.InvariantCulture));
            case TokenKind.Float:
                return new Constant(token.Line, double.Parse(token.Text, CultureInfo.InvariantCulture));
        }
        return token.Kind == TokenKind.Operator && token.Text is "(" or "[" or "{"
            ? tokens.Nested(() => Bracketed(token))
            : throw TokenStream.Error($"{token.Describe()} stands where a value is expected", token.Line);
    }

    private Expression Bracketed(JinjaToken open)
    {
        if (open.Text == "(")
        {
            if (tokens.TakeOperator(")"))
                return new ListDisplay(open.Line, [], IsTuple: true);
            Expression inner = ParseTuple();
            tokens.ExpectOperator(")");
            return inner;
        }
        if (open.Text == "[")
            return new ListDisplay(open.Line, Separated("]", Parse), IsTuple: false);
        return new DictDisplay(open.Line, Separated("}", () =>
        {
            Expression key = Parse();
            tokens.ExpectOperator(":");
            return (key, Parse());
        }));
    }

    private List<T> Separated<T>(string close, Func<T> item)
    {
        List<T> items = [];
        while (!tokens.TakeOperator(close))
        {
            if (items.Count > 0)
            {
                tokens.ExpectOperator(",");
                if (tokens.TakeOperator(close))
                    break;
            }
            items.Add(item());
        }
        return items;
    }

    private Expression Postfix(Expression value)
    {
        while (tokens.Current.Kind == TokenKind.Operator)
        {
            JinjaToken token = tokens.Current;
            if (tokens.TakeOperator("."))
            {
                value = tokens.Current.Kind == TokenKind.Integer
                    ? new Item(token.Line, value, new Constant(token.Line, long.Parse(tokens.Next().Text, CultureInfo.InvariantCulture)))
                    : new Attribute(token.Line, value, tokens.ExpectName());
            }
            else if (tokens.TakeOperator("["))
            {
                List<Expression> keys = Separated("]", () => tokens.Nested(Subscript));
                if (keys.Count == 0)
                    throw TokenStream.Error("[] has nothing in it", token.Line);
                value = new Item(token.Line, value, keys.Count == 1 ? keys[0] : new ListDisplay(token.Line, keys, IsTuple: true));
            }
            else if (token.IsOperator("("))
            {
                value = new Call(token.Line, value, Arguments());
            }
            else
            {
                break;
            }
        }
        return value;
    }

    private Expression Subscript()
    {
        int line = tokens.Current.Line;
        Expression? start = tokens.Current.IsOperator(":") ? null : Parse();
        if (!tokens.TakeOperator(":"))
            return start!;
        Expression? stop = EndsSlice() ? null : Parse();
        Expression? step = tokens.TakeOperator(":") && !EndsSlice() ? Parse() : null;
        return new Slice(line, start, stop, step);

        bool EndsSlice() => tokens.Current.IsOperator(":") || tokens.Current.IsOperator("]") || tokens.Current.IsOperator(",");
    }

    private ArgumentList Arguments()
    {
        tokens.ExpectOperator("(");
        List<Expression> positional = [];
        List<(string, Expression)> named = [];
        Expression? spread = null;
        Expression? namedSpread = null;
        Separated(")", () =>
        {
            if (tokens.TakeOperator("**"))
                namedSpread = Parse();
            else if (tokens.TakeOperator("*"))
                spread = Parse();
            else if (tokens.Current.Kind == TokenKind.Name && tokens.Following.IsOperator("="))
            {
                string name = tokens.Next().Text;
                tokens.Next();
                named.Add((name, Parse()));
            }
            else if (named.Count > 0 || spread is not null || namedSpread is not null)
                throw tokens.Error("an argument without a name stands behind one with a name");
            else
                positional.Add(Parse());
            return 0;
        });
        return new ArgumentList(positional, named, spread, namedSpread);
    }

    private Expression Filters(Expression value, bool first)
    {
        while (true)
        {
            if (tokens.TakeOperator("|"))
                value = OneFilter(value);
            else if (first && tokens.Current.IsName("is"))
                value = OneTest(value);
            else if (first && tokens.Current.IsOperator("("))
                value = new Call(tokens.Current.Line, value, Arguments());
            else
                return value;
        }
    }

    private Filter OneFilter(Expression? target)
    {
        (int line, string name) = (tokens.Current.Line, DottedName());
        return new Filter(line, target, name, tokens.Current.IsOperator("(") ? Arguments() : ArgumentList.None);
    }

    private Test OneTest(Expression target)
    {
        int line = tokens.Next().Line;
        bool negated = tokens.TakeName("not");
        string name = DottedName();
        JinjaToken token = tokens.Current;
        if (token.IsOperator("("))
            return new Test(line, target, name, Arguments(), negated);
        bool takesValue = token.Kind is TokenKind.String or TokenKind.Integer or TokenKind.Float || token.IsOperator("[") || token.IsOperator("{")
            || (token.Kind == TokenKind.Name && token.Text is not ("else" or "or" or "and" or "if" or "is" or "in" or "not"));
        if (token.IsName("is"))
            throw tokens.Error("two tests stand behind one another: join them with 'and'");
        return new Test(line, target, name, takesValue ? new ArgumentList([Postfix(Primary())], [], null, null) : ArgumentList.None, negated);
    }

    private string DottedName()
    {
        string name = tokens.ExpectName();
        while (tokens.TakeOperator("."))
            name += "." + tokens.ExpectName();
        return name;
    }
}
