namespace MLNetLora.Jinja;

/// <summary>A part of a template that has a value.</summary>
/// <param name="Line">Its line, from 1.</param>
internal abstract record Expression(int Line);

internal sealed record Constant(int Line, object? Value) : Expression(Line);

internal sealed record Variable(int Line, string Name) : Expression(Line);

internal sealed record ListDisplay(int Line, IReadOnlyList<Expression> Items, bool IsTuple) : Expression(Line);

internal sealed record DictDisplay(int Line, IReadOnlyList<(Expression Key, Expression Value)> Items) : Expression(Line);

internal sealed record Unary(int Line, string Operator, Expression Operand) : Expression(Line);

internal sealed record Binary(int Line, string Operator, Expression Left, Expression Right) : Expression(Line);

internal sealed record Comparison(int Line, Expression First, IReadOnlyList<(string Operator, Expression Operand)> Rest) : Expression(Line);

internal sealed record Logical(int Line, bool IsAnd, IReadOnlyList<Expression> Operands) : Expression(Line);

internal sealed record Concatenation(int Line, IReadOnlyList<Expression> Operands) : Expression(Line);

internal sealed record Conditional(int Line, Expression Test, Expression Then, Expression? Else) : Expression(Line);

internal sealed record Attribute(int Line, Expression Target, string Name) : Expression(Line);

internal sealed record Item(int Line, Expression Target, Expression Key) : Expression(Line);

internal sealed record Slice(int Line, Expression? Start, Expression? Stop, Expression? Step) : Expression(Line);

internal sealed record Call(int Line, Expression Target, ArgumentList Arguments) : Expression(Line);

/// <summary>A filter; the target is null for the body of a filter block.</summary>
internal sealed record Filter(int Line, Expression? Target, string Name, ArgumentList Arguments) : Expression(Line);

internal sealed record Test(int Line, Expression Target, string Name, ArgumentList Arguments, bool IsNegated) : Expression(Line);

/// <summary>The arguments of a call as they are written.</summary>
internal sealed record ArgumentList(
    IReadOnlyList<Expression> Positional, IReadOnlyList<(string Name, Expression Value)> Named, Expression? Spread, Expression? NamedSpread)
{
    public static readonly ArgumentList None = new([], [], null, null);
}

/// <summary>A part of a template that does something.</summary>
/// <param name="Line">Its line, from 1.</param>
internal abstract record Statement(int Line);

internal sealed record DataStatement(int Line, TaggedText Text) : Statement(Line);

internal sealed record OutputStatement(int Line, Expression Value) : Statement(Line);

internal sealed record ForStatement(
    int Line, AssignmentTarget Target, Expression Sequence, Expression? Condition, IReadOnlyList<Statement> Body, IReadOnlyList<Statement> Else)
    : Statement(Line);

internal sealed record IfStatement(int Line, IReadOnlyList<(Expression Test, IReadOnlyList<Statement> Body)> Branches, IReadOnlyList<Statement> Else)
    : Statement(Line);

internal sealed record SetStatement(int Line, AssignmentTarget Target, Expression Value) : Statement(Line);

internal sealed record SetBlockStatement(int Line, AssignmentTarget Target, Expression? Filter, IReadOnlyList<Statement> Body) : Statement(Line);

internal sealed record MacroStatement(int Line, MacroDefinition Macro) : Statement(Line);

internal sealed record CallStatement(int Line, Call Call, MacroDefinition Caller) : Statement(Line);

internal sealed record FilterStatement(int Line, Expression Filter, IReadOnlyList<Statement> Body) : Statement(Line);

internal sealed record WithStatement(int Line, IReadOnlyList<(AssignmentTarget Target, Expression Value)> Variables, IReadOnlyList<Statement> Body)
    : Statement(Line);

internal sealed record GenerationStatement(int Line, IReadOnlyList<Statement> Body) : Statement(Line);

internal sealed record BreakStatement(int Line) : Statement(Line);

internal sealed record ContinueStatement(int Line) : Statement(Line);

/// <summary>Where a value goes: a name, an attribute of a namespace (the name's second part), or several names.</summary>
internal sealed record AssignmentTarget(string? Name, string? Member, IReadOnlyList<AssignmentTarget>? Parts);

/// <summary>A macro, or the body of a call block.</summary>
internal sealed record MacroDefinition(
    string Name, IReadOnlyList<(string Name, Expression? Default)> Parameters, bool TakesMore, bool TakesMoreNamed, IReadOnlyList<Statement> Body);
