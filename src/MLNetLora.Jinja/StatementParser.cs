namespace MLNetLora.Jinja;

/// <summary>Reads the statements of a template.</summary>
internal sealed class StatementParser
{
    private readonly TokenStream _tokens;
    private readonly ExpressionParser _expressions;
    private int _loops;

    private StatementParser(TokenStream tokens) => (_tokens, _expressions) = (tokens, new ExpressionParser(tokens));

    /// <summary>Reads a template.</summary>
    /// <exception cref="JinjaException">It is not valid; the message names the line.</exception>
    public static IReadOnlyList<Statement> Parse(string source)
    {
        StatementParser parser = new(new TokenStream(JinjaLexer.Tokenize(source)));
        IReadOnlyList<Statement> statements = parser.Body();
        return parser._tokens.Current.Kind == TokenKind.End ? statements : throw parser._tokens.Error($"{parser._tokens.Current.Describe()} closes nothing");
    }

    /// <summary>Statements up to a tag that begins with one of some names, which is left to be read; up to the template's end where there are none.</summary>
    private List<Statement> Body(params ReadOnlySpan<string> ends)
    {
        List<Statement> statements = [];
        while (true)
        {
            JinjaToken token = _tokens.Current;
            switch (token.Kind)
            {
                case TokenKind.Data:
                    _tokens.Next();
                    statements.Add(new DataStatement(token.Line, new TaggedText(token.Text, Origin.Template)));
                    break;
                case TokenKind.VariableBegin:
                    _tokens.Next();
                    statements.Add(new OutputStatement(token.Line, _expressions.ParseTuple()));
                    _tokens.Expect(TokenKind.VariableEnd);
                    break;
                case TokenKind.BlockBegin when ends.Contains(_tokens.Following.Text):
                    _tokens.Next();
                    return statements;
                case TokenKind.BlockBegin:
                    _tokens.Next();
                    statements.Add(_tokens.Nested(Tag));
                    break;
                default:
                    if (ends.Length > 0)
                    {
                        throw _tokens.Error($"{{% {ends[^1]} %}} is missing");
                    }

                    return statements;
            }
        }
    }

    private Statement Tag()
    {
        JinjaToken tag = _tokens.Next();
        if (tag.Kind != TokenKind.Name)
        {
            throw TokenStream.Error($"a tag begins with {tag.Describe()}", tag.Line);
        }

        return tag.Text switch
        {
            "for" => For(tag.Line),
            "if" => If(tag.Line),
            "set" => Set(tag.Line),
            "macro" => Macro(tag.Line),
            "call" => CallBlock(tag.Line),
            "filter" => FilterBlock(tag.Line),
            "with" => With(tag.Line),
            "generation" => Generation(tag.Line),
            "break" or "continue" => Jump(tag),
            "else" or "elif" => throw TokenStream.Error($"{{% {tag.Text} %}} closes nothing", tag.Line),
            _ when tag.Text.StartsWith("end", StringComparison.Ordinal) => throw TokenStream.Error($"{{% {tag.Text} %}} closes nothing", tag.Line),
            _ => throw TokenStream.Error($"the tag {{% {tag.Text} %}} is not known in chat templates", tag.Line),
        };
    }

    private ForStatement For(int line)
    {
        AssignmentTarget target = Target(members: false);
        if (!_tokens.TakeName("in"))
        {
            throw _tokens.Error($"'in' is expected, not {_tokens.Current.Describe()}");
        }

        Expression sequence = _expressions.ParseTuple(conditional: false);
        Expression? condition = _tokens.TakeName("if") ? _expressions.Parse() : null;
        _tokens.Expect(TokenKind.BlockEnd);
        _loops++;
        List<Statement> body = Body("else", "endfor");
        _loops--;
        List<Statement> otherwise = [];
        if (_tokens.Next().Text == "else")
        {
            _tokens.Expect(TokenKind.BlockEnd);
            otherwise = Body("endfor");
            _tokens.Next();
        }
        _tokens.Expect(TokenKind.BlockEnd);
        return new ForStatement(line, target, sequence, condition, body, otherwise);
    }

    private IfStatement If(int line)
    {
        List<(Expression, IReadOnlyList<Statement>)> branches = [];
        List<Statement> otherwise = [];
        while (true)
        {
            Expression test = _expressions.ParseTuple(conditional: false);
            _tokens.Expect(TokenKind.BlockEnd);
            branches.Add((test, Body("elif", "else", "endif")));
            string next = _tokens.Next().Text;
            if (next == "elif")
            {
                continue;
            }

            if (next == "else")
            {
                _tokens.Expect(TokenKind.BlockEnd);
                otherwise = Body("endif");
                _tokens.Next();
            }
            _tokens.Expect(TokenKind.BlockEnd);
            return new IfStatement(line, branches, otherwise);
        }
    }

    private Statement Set(int line)
    {
        AssignmentTarget target = Target(members: true);
        if (_tokens.TakeOperator("="))
        {
            Expression value = _expressions.ParseTuple();
            _tokens.Expect(TokenKind.BlockEnd);
            return new SetStatement(line, target, value);
        }
        Expression? filter = _expressions.ParseSetFilter();
        return new SetBlockStatement(line, target, filter, Until("endset"));
    }

    private MacroStatement Macro(int line)
    {
        string name = _tokens.ExpectName();
        return new MacroStatement(line, Definition(name, "endmacro"));
    }

    private CallStatement CallBlock(int line)
    {
        List<(string, Expression?)> parameters = _tokens.Current.IsOperator("(") ? Parameters() : [];
        Expression call = _expressions.Parse();
        if (call is not Call target)
        {
            throw TokenStream.Error("{% call %} needs a call, such as name(…)", line);
        }

        return new CallStatement(line, target, Definition("caller", "endcall", parameters));
    }

    private FilterStatement FilterBlock(int line)
    {
        Expression filter = _expressions.ParseFilterChain();
        return new FilterStatement(line, filter, Until("endfilter"));
    }

    private WithStatement With(int line)
    {
        List<(AssignmentTarget, Expression)> variables = [];
        while (_tokens.Current.Kind != TokenKind.BlockEnd)
        {
            if (variables.Count > 0)
            {
                _tokens.ExpectOperator(",");
            }

            AssignmentTarget target = OneTarget(members: false);
            _tokens.ExpectOperator("=");
            variables.Add((target, _expressions.Parse()));
        }
        return new WithStatement(line, variables, Until("endwith"));
    }

    private GenerationStatement Generation(int line) => new(line, Until("endgeneration"));

    private Statement Jump(JinjaToken tag)
    {
        if (_loops == 0)
        {
            throw TokenStream.Error($"{{% {tag.Text} %}} stands outside a loop", tag.Line);
        }

        _tokens.Expect(TokenKind.BlockEnd);
        return tag.Text == "break" ? new BreakStatement(tag.Line) : new ContinueStatement(tag.Line);
    }

    private MacroDefinition Definition(string name, string end, List<(string, Expression?)>? parameters = null)
    {
        (HashSet<string> outer, int loops) = (_expressions.Names, _loops);
        _expressions.Names = new HashSet<string>(StringComparer.Ordinal);
        _loops = 0;
        parameters ??= Parameters();
        List<Statement> body = Until(end);
        MacroDefinition definition = new(name, parameters, _expressions.Names.Contains("varargs"), _expressions.Names.Contains("kwargs"), body);
        (_expressions.Names, _loops) = (outer, loops);
        return definition;
    }

    private List<(string, Expression?)> Parameters()
    {
        List<(string, Expression?)> parameters = [];
        _tokens.ExpectOperator("(");
        while (!_tokens.TakeOperator(")"))
        {
            if (parameters.Count > 0)
            {
                _tokens.ExpectOperator(",");
            }

            string name = _tokens.ExpectName();
            Expression? value = _tokens.TakeOperator("=") ? _expressions.Parse() : null;
            if (value is null && parameters.Count > 0 && parameters[^1].Item2 is not null)
            {
                throw _tokens.Error($"the parameter {name} has no default, but the one before it has");
            }

            parameters.Add((name, value));
        }
        return parameters;
    }

    private List<Statement> Until(string end)
    {
        _tokens.Expect(TokenKind.BlockEnd);
        List<Statement> body = Body(end);
        _tokens.Next();
        _tokens.Expect(TokenKind.BlockEnd);
        return body;
    }

    private AssignmentTarget Target(bool members)
    {
        AssignmentTarget first = OneTarget(members);
        if (!_tokens.Current.IsOperator(","))
        {
            return first;
        }

        List<AssignmentTarget> parts = [first];
        while (_tokens.TakeOperator(",") && (_tokens.Current.Kind == TokenKind.Name || _tokens.Current.IsOperator("(")) && !_tokens.Current.IsName("in"))
        {
            parts.Add(OneTarget(members));
        }

        return new AssignmentTarget(null, null, parts);
    }

    private AssignmentTarget OneTarget(bool members)
    {
        if (_tokens.TakeOperator("("))
        {
            AssignmentTarget inner = _tokens.Nested(() => Target(members));
            _tokens.ExpectOperator(")");
            return inner;
        }
        JinjaToken token = _tokens.Current;
        string name = _tokens.ExpectName();
        if (name is "true" or "false" or "none" or "True" or "False" or "None" or "not" or "in" or "if" or "else" or "and" or "or" or "is")
        {
            throw TokenStream.Error($"'{name}' cannot be given a value", token.Line);
        }

        return members && _tokens.TakeOperator(".") ? new AssignmentTarget(name, _tokens.ExpectName(), null) : new AssignmentTarget(name, null, null);
    }
}
