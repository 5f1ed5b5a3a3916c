namespace MLNetLora.Jinja;

/// <summary>Runs the statements of a template. One instance renders once.</summary>
internal sealed class Interpreter
{
    private readonly Work _work;
    private readonly Evaluator _evaluator;
    private readonly TaggedTextBuilder _output;
    private readonly List<GenerationSpan> _spans = [];

    /// <summary>Prepares one rendering.</summary>
    /// <param name="work">What it may do.</param>
    /// <param name="now">The time that strftime_now gives.</param>
    public Interpreter(Work work, DateTimeOffset now)
    {
        _work = work;
        _output = new TaggedTextBuilder(work);
        _evaluator = new Evaluator(work, now);
    }

    private enum Flow
    {
        Next,
        Break,
        Continue,
    }

    /// <summary>Line of what is being done, for messages.</summary>
    public int Line => _evaluator.Line;

    /// <summary>What {% generation %} marks, in order; only what stands in the output itself, not in a macro or a block that is set aside.</summary>
    public IReadOnlyList<GenerationSpan> Spans => _spans;

    /// <summary>Runs a template.</summary>
    /// <param name="statements">The template.</param>
    /// <param name="variables">What it can see.</param>
    public TaggedText Render(IReadOnlyList<Statement> statements, IEnumerable<KeyValuePair<string, object?>> variables)
    {
        Scope scope = new(null);
        _evaluator.AddGlobals(scope);
        foreach ((string name, object? value) in variables)
        {
            scope.Set(name, value);
        }

        Run(statements, new Scope(scope), _output);
        return _output.ToText();
    }

    private Flow Run(IReadOnlyList<Statement> statements, Scope scope, TaggedTextBuilder output)
    {
        foreach (Statement statement in statements)
        {
            _work.Charge(1);
            _evaluator.Line = statement.Line;
            Flow flow = Run(statement, scope, output);
            if (flow != Flow.Next)
            {
                return flow;
            }
        }
        return Flow.Next;
    }

    private Flow Run(Statement statement, Scope scope, TaggedTextBuilder output)
    {
        switch (statement)
        {
            case DataStatement data:
                output.Append(data.Text);
                break;
            case OutputStatement print:
                output.Append(PythonText.Str(_evaluator.Evaluate(print.Value, scope), _work));
                break;
            case IfStatement branches:
                return Nested(() => Run(Choose(branches, scope), scope, output));
            case ForStatement loop:
                Nested(() => For(loop, _evaluator.Evaluate(loop.Sequence, scope), scope, output));
                break;
            case SetStatement set:
                Assign(set.Target, _evaluator.Evaluate(set.Value, scope), scope);
                break;
            case SetBlockStatement set:
                TaggedText body = Capture(set.Body, new Scope(scope));
                Assign(set.Target, set.Filter is null ? body : _evaluator.ApplyFilter(set.Filter, body, scope), scope);
                break;
            case MacroStatement macro:
                scope.Set(macro.Macro.Name, Function(macro.Macro, scope));
                break;
            case CallStatement call:
                output.Append(PythonText.Str(_evaluator.Call(call.Call, scope, ("caller", Function(call.Caller, scope))), _work));
                break;
            case FilterStatement filter:
                output.Append(PythonText.Str(_evaluator.ApplyFilter(filter.Filter, Capture(filter.Body, new Scope(scope)), scope), _work));
                break;
            case WithStatement with:
                Scope inner = new(scope);
                foreach ((AssignmentTarget target, Expression value) in with.Variables)
                {
                    Assign(target, _evaluator.Evaluate(value, scope), inner);
                }

                return Nested(() => Run(with.Body, inner, output));
            case GenerationStatement generation:
                int start = output.Length;
                Flow flow = Nested(() => Run(generation.Body, new Scope(scope), output));
                if (ReferenceEquals(output, _output))
                {
                    _spans.Add(new GenerationSpan(start, output.Length - start));
                }

                return flow;
            case BreakStatement:
                return Flow.Break;
            case ContinueStatement:
                return Flow.Continue;
        }
        return Flow.Next;
    }

    private IReadOnlyList<Statement> Choose(IfStatement branches, Scope scope)
    {
        foreach ((Expression test, IReadOnlyList<Statement> body) in branches.Branches)
        {
            if (Python.IsTrue(_evaluator.Evaluate(test, scope)))
            {
                return body;
            }
        }
        return branches.Else;
    }

    private Flow For(ForStatement loop, object? sequence, Scope scope, TaggedTextBuilder output)
    {
        IReadOnlyList<object?> items = Python.Iterate(sequence, _work);
        if (loop.Condition is not null)
        {
            items = [.. items.Where(item =>
            {
                Scope candidate = new(scope);
                Assign(loop.Target, item, candidate);
                return Python.IsTrue(_evaluator.Evaluate(loop.Condition, candidate));
            })];
        }
        LoopContext context = new(items);
        for (; context.Index < items.Count; context.Index++)
        {
            Scope inner = new(scope);
            inner.Set("loop", context);
            Assign(loop.Target, items[context.Index], inner);
            if (Run(loop.Body, inner, output) == Flow.Break)
            {
                break;
            }
        }
        return items.Count == 0 ? Run(loop.Else, new Scope(scope), output) : Flow.Next;
    }

    private void Assign(AssignmentTarget target, object? value, Scope scope)
    {
        if (target.Parts is not null)
        {
            IReadOnlyList<object?> values = Python.Iterate(value, _work);
            if (values.Count != target.Parts.Count)
            {
                throw new JinjaFault($"{values.Count} values cannot be given to {target.Parts.Count} names");
            }

            for (int i = 0; i < values.Count; i++)
            {
                Assign(target.Parts[i], values[i], scope);
            }
        }
        else if (target.Member is null)
        {
            scope.Set(target.Name!, value);
        }
        else if (scope.Get(target.Name!) is JinjaNamespace attributes)
        {
            attributes.Attributes[target.Member] = value;
        }
        else
        {
            throw new JinjaFault($"'{target.Name}.{target.Member}' cannot be set: '{target.Name}' is not a namespace");
        }
    }

    private JinjaFunction Function(MacroDefinition macro, Scope scope) => new(macro.Name, arguments =>
    {
        if (arguments.Positional.Count > macro.Parameters.Count && !macro.TakesMore)
        {
            throw new JinjaFault($"the macro {macro.Name} takes {macro.Parameters.Count} arguments, not {arguments.Positional.Count}");
        }

        Scope inner = new(scope);
        for (int i = 0; i < macro.Parameters.Count; i++)
        {
            (string name, Expression? otherwise) = macro.Parameters[i];
            if (!arguments.TryGet(i, name, out object? value))
            {
                value = otherwise is null ? new Undefined(name) : _evaluator.Evaluate(otherwise, inner);
            }

            inner.Set(name, value);
        }
        JinjaDict more = new();
        foreach ((string name, object? value) in arguments.Named)
        {
            if (name == "caller")
            {
                inner.Set(name, value);
            }
            else if (macro.Parameters.All(parameter => parameter.Name != name))
            {
                more.Set(new TaggedText(name, Origin.Template), value);
            }
        }
        if (more.Items.Count > 0 && !macro.TakesMoreNamed)
        {
            throw new JinjaFault($"the macro {macro.Name} has no parameter '{more.Items[0].Key}'");
        }

        if (macro.TakesMore)
        {
            inner.Set("varargs", new JinjaList([.. arguments.Positional.Skip(macro.Parameters.Count)], ListKind.Tuple));
        }

        if (macro.TakesMoreNamed)
        {
            inner.Set("kwargs", more);
        }

        return Capture(macro.Body, inner);
    });

    private TaggedText Capture(IReadOnlyList<Statement> body, Scope scope)
    {
        TaggedTextBuilder text = new(_work);
        Nested(() => Run(body, scope, text));
        return text.ToText();
    }

    private Flow Nested(Func<Flow> run)
    {
        _work.Enter();
        Flow flow = run();
        _work.Leave();
        return flow;
    }
}
