using System.Globalization;
using System.Text;

namespace MLNetLora.Jinja;

/// <summary>Operands: literals, names, brackets, and what stands behind them.</summary>
internal sealed partial class ExpressionParser
{
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
                StringBuilder text = new(token.Text); // literals behind one another are one text
                while (tokens.Current.Kind == TokenKind.String)
                {
                    text.Append(tokens.Next().Text);
                }

                return new Constant(token.Line, new TaggedText(text.ToString(), Origin.Template));
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
            {
                return new ListDisplay(open.Line, [], IsTuple: true);
            }

            Expression inner = ParseTuple();
            tokens.ExpectOperator(")");
            return inner;
        }
        if (open.Text == "[")
        {
            return new ListDisplay(open.Line, Separated("]", Parse), IsTuple: false);
        }

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
                {
                    break;
                }
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
                {
                    throw TokenStream.Error("[] has nothing in it", token.Line);
                }

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
        {
            return start!;
        }

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
            {
                namedSpread = Parse();
            }
            else if (tokens.TakeOperator("*"))
            {
                spread = Parse();
            }
            else if (tokens.Current.Kind == TokenKind.Name && tokens.Following.IsOperator("="))
            {
                string name = tokens.Next().Text;
                tokens.Next();
                named.Add((name, Parse()));
            }
            else if (named.Count > 0 || spread is not null || namedSpread is not null)
            {
                throw tokens.Error("an argument without a name stands behind one with a name");
            }
            else
            {
                positional.Add(Parse());
            }

            return 0;
        });
        return new ArgumentList(positional, named, spread, namedSpread);
    }

    private Expression Filters(Expression value, bool first)
    {
        while (true)
        {
            if (tokens.TakeOperator("|"))
            {
                value = OneFilter(value);
            }
            else if (first && tokens.Current.IsName("is"))
            {
                value = OneTest(value);
            }
            else if (first && tokens.Current.IsOperator("("))
            {
                value = new Call(tokens.Current.Line, value, Arguments());
            }
            else
            {
                return value;
            }
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
        {
            return new Test(line, target, name, Arguments(), negated);
        }

        bool takesValue = token.Kind is TokenKind.String or TokenKind.Integer or TokenKind.Float || token.IsOperator("[") || token.IsOperator("{")
            || (token.Kind == TokenKind.Name && token.Text is not ("else" or "or" or "and" or "if" or "is" or "in" or "not"));
        if (token.IsName("is"))
        {
            throw tokens.Error("two tests stand behind one another: join them with 'and'");
        }

        return new Test(line, target, name, takesValue ? new ArgumentList([Postfix(Primary())], [], null, null) : ArgumentList.None, negated);
    }

    private string DottedName()
    {
        StringBuilder name = new(tokens.ExpectName());
        while (tokens.TakeOperator("."))
        {
            name.Append('.').Append(tokens.ExpectName());
        }

        return name.ToString();
    }
}
