namespace MLNetLora.Jinja;

/// <summary>Computes the values of expressions.</summary>
/// <param name="work">What may be done.</param>
/// <param name="now">The time that strftime_now gives.</param>
internal sealed class Evaluator(Work work, DateTimeOffset now)
{
    /// <summary>Line of what is being computed, for messages.</summary>
    public int Line { get; set; }

    /// <summary>What may be done.</summary>
    public Work Work { get; } = work;

    /// <summary>Sets the names that every template can see.</summary>
    public void AddGlobals(Scope scope) => Globals.Add(scope, Work, now);

    /// <summary>The value of an expression.</summary>
    /// <exception cref="JinjaFault">It has none.</exception>
    public object? Evaluate(Expression expression, Scope scope)
    {
        Work.Enter();
        Line = expression.Line;
        object? value = expression switch
        {
            Constant constant => constant.Value,
            Variable variable => scope.Get(variable.Name),
            Attribute attribute => Members.Attribute(Evaluate(attribute.Target, scope), attribute.Name, Work),
            Item item => item.Key is Slice slice ? Sliced(item, slice, scope) : Members.Item(Evaluate(item.Target, scope), Evaluate(item.Key, scope), Work),
            Call call => Call(call, scope),
            Filter filter => ApplyFilter(filter, Evaluate(filter.Target!, scope), scope),
            Test test => Tests.Apply(this, test.Name, Evaluate(test.Target, scope), Arguments(test.Name, test.Arguments, scope)) != test.IsNegated,
            Comparison comparison => Compare(comparison, scope),
            Logical logical => Logic(logical, scope),
            Conditional conditional => Python.IsTrue(Evaluate(conditional.Test, scope)) ? Evaluate(conditional.Then, scope)
                : conditional.Else is null ? new Undefined("the value of an if without else") : Evaluate(conditional.Else, scope),
            Concatenation parts => Concatenate(parts, scope),
            Binary binary => Arithmetic.Apply(binary.Operator, Evaluate(binary.Left, scope), Evaluate(binary.Right, scope), Work),
            Unary { Operator: "not" } unary => !Python.IsTrue(Evaluate(unary.Operand, scope)),
            Unary unary => Arithmetic.Sign(unary.Operator, Evaluate(unary.Operand, scope)),
            ListDisplay list => new JinjaList([.. list.Items.Select(item => Evaluate(item, scope))], list.IsTuple ? ListKind.Tuple : ListKind.List),
            DictDisplay dict => Dictionary(dict, scope),
            _ => throw new JinjaFault("a slice stands outside square brackets"),
        };
        Line = expression.Line;
        Work.Leave();
        return value;
    }

    /// <summary>The value of a chain of filters, the innermost of which gets a given value.</summary>
    public object? ApplyFilter(Expression filters, object? value, Scope scope)
    {
        Filter filter = (Filter)filters;
        Work.Enter();
        if (filter.Target is Filter inner && Innermost(inner).Target is null)
        {
            value = ApplyFilter(inner, value, scope);
        }

        value = Filters.Apply(this, filter.Name, value, Arguments(filter.Name, filter.Arguments, scope));
        Work.Leave();
        return value;
    }

    /// <summary>The value of a call.</summary>
    /// <param name="call">What is called with what.</param>
    /// <param name="scope">The names around it.</param>
    /// <param name="more">A further named argument.</param>
    public object? Call(Call call, Scope scope, params ReadOnlySpan<(string Name, object? Value)> more)
    {
        object? target = Evaluate(call.Target, scope);
        string name = (target as JinjaFunction)?.Name ?? "";
        Arguments arguments = Arguments(name, call.Arguments, scope);
        if (!more.IsEmpty)
        {
            arguments = new Arguments(name, arguments.Positional, [.. arguments.Named, .. more]);
        }

        return target switch
        {
            JinjaFunction function => function.Invoke(arguments),
            Undefined undefined => throw undefined.Fault(),
            _ => throw new JinjaFault($"a {Python.TypeName(target)} cannot be called"),
        };
    }

    private static Filter Innermost(Filter filter)
    {
        while (filter.Target is Filter inner)
        {
            filter = inner;
        }

        return filter;
    }

    private Arguments Arguments(string function, ArgumentList list, Scope scope)
    {
        List<object?> positional = [.. list.Positional.Select(argument => Evaluate(argument, scope))];
        if (list.Spread is not null)
        {
            positional.AddRange(Python.Iterate(Evaluate(list.Spread, scope), Work));
        }

        List<(string, object?)> named = [.. list.Named.Select(argument => (argument.Name, Evaluate(argument.Value, scope)))];
        if (list.NamedSpread is not null)
        {
            JinjaDict dict = Evaluate(list.NamedSpread, scope) as JinjaDict ?? throw new JinjaFault("** needs a dictionary");
            foreach ((object? key, object? value) in dict.Items)
            {
                named.Add((key is TaggedText text ? text.Value : throw new JinjaFault("a key behind ** is not a text"), value));
            }
        }
        return new Arguments(function, positional, named);
    }

    private bool Compare(Comparison comparison, Scope scope)
    {
        object? left = Evaluate(comparison.First, scope);
        foreach ((string text, Expression operand) in comparison.Rest)
        {
            object? right = Evaluate(operand, scope);
            bool holds = text switch
            {
                "==" => Python.AreEqual(left, right, Work),
                "!=" => !Python.AreEqual(left, right, Work),
                "in" => Python.Contains(right, left, Work),
                "not in" => !Python.Contains(right, left, Work),
                "<" => Python.Compare(left, right, Work) < 0,
                "<=" => Python.Compare(left, right, Work) <= 0,
                ">" => Python.Compare(left, right, Work) > 0,
                _ => Python.Compare(left, right, Work) >= 0,
            };
            if (!holds)
            {
                return false;
            }

            left = right;
        }
        return true;
    }

    private object? Logic(Logical logical, Scope scope)
    {
        object? value = null;
        foreach (Expression operand in logical.Operands)
        {
            value = Evaluate(operand, scope);
            if (Python.IsTrue(value) != logical.IsAnd)
            {
                return value;
            }
        }
        return value;
    }

    private TaggedText Concatenate(Concatenation parts, Scope scope)
    {
        TaggedTextBuilder text = new(Work);
        foreach (Expression operand in parts.Operands)
        {
            text.Append(PythonText.Str(Evaluate(operand, scope), Work));
        }

        return text.ToText();
    }

    private JinjaDict Dictionary(DictDisplay display, Scope scope)
    {
        JinjaDict dict = new();
        foreach ((Expression key, Expression value) in display.Items)
        {
            dict.Set(Evaluate(key, scope), Evaluate(value, scope));
        }

        return dict;
    }

    private object? Sliced(Item item, Slice slice, Scope scope)
    {
        object? target = Evaluate(item.Target, scope);
        return Members.Slice(target, Bound(slice.Start), Bound(slice.Stop), Bound(slice.Step), Work);

        long? Bound(Expression? bound) => bound is null ? null : Evaluate(bound, scope) switch
        {
            null => null,
            long number => number,
            bool truth => truth ? 1 : 0,
            Undefined undefined => throw undefined.Fault(),
            object other => throw new JinjaFault($"a slice is bounded by whole numbers, not by a {Python.TypeName(other)}"),
        };
    }
}
