namespace MLNetLora.Jinja;

/// <summary>
/// A Jinja template, rendered as Jinja 3.1 renders it in the environment that transformers sets up for chat templates: sandboxed, trim_blocks,
/// lstrip_blocks, loop controls, transformers' own <c>tojson</c>, <c>raise_exception</c> and <c>strftime_now</c>. A template may come from anywhere:
/// it reaches nothing but the variables it is given, changes none of them, and its time, memory and nesting are bounded. Immutable: one instance
/// serves any number of threads.
/// </summary>
public sealed class JinjaTemplate
{
    private readonly IReadOnlyList<Statement> _statements;

    private JinjaTemplate(string source)
    {
        Source = source;
        _statements = StatementParser.Parse(source);
    }

    /// <summary>The template as it is written.</summary>
    public string Source { get; }

    /// <summary>Reads a template.</summary>
    /// <param name="source">Jinja.</param>
    /// <exception cref="JinjaException">It is not valid; the message names the line.</exception>
    public static JinjaTemplate Parse(string source)
    {
        ArgumentNullException.ThrowIfNull(source);
        return new JinjaTemplate(source);
    }

    /// <summary>Renders the template.</summary>
    /// <param name="variables">
    /// What the template can see: null, bool, int, long, BigInteger, float, double, string, <see cref="System.Text.Json.JsonElement"/>, or
    /// dictionaries with text keys and lists of these.
    /// </param>
    /// <param name="options">Bounds and clock; null for the defaults.</param>
    /// <exception cref="JinjaException">The template fails, raises an exception of its own, or does more than it may; the message names the line.</exception>
    public string Render(IReadOnlyDictionary<string, object?> variables, JinjaOptions? options = null) => Render(variables, out _, options);

    /// <summary>Renders the template and says what it marks with {% generation %}.</summary>
    /// <param name="variables">What the template can see.</param>
    /// <param name="generation">The marked parts, in order; none where it marks nothing.</param>
    /// <param name="options">Bounds and clock; null for the defaults.</param>
    /// <exception cref="JinjaException">The template fails, raises an exception of its own, or does more than it may; the message names the line.</exception>
    public string Render(IReadOnlyDictionary<string, object?> variables, out IReadOnlyList<GenerationSpan> generation, JinjaOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(variables);
        Dictionary<string, object?> values = variables.ToDictionary(
            variable => variable.Key, variable => JinjaValues.From(variable.Value, variable.Key), StringComparer.Ordinal);
        (TaggedText text, generation) = RenderTagged(values, options);
        return text.Value;
    }

    /// <summary>Renders the template so that every character says where it comes from.</summary>
    /// <param name="values">Values of a template, see <see cref="JinjaValues"/>.</param>
    /// <param name="options">Bounds and clock; null for the defaults.</param>
    internal (TaggedText Text, IReadOnlyList<GenerationSpan> Generation) RenderTagged(IReadOnlyDictionary<string, object?> values, JinjaOptions? options = null)
    {
        options ??= JinjaOptions.Default;

        // A conversation of any length may be rendered, but every character of it only so often.
        Int128 budget = options.Work + ((Int128)options.WorkPerCharacter * values.Values.Sum(JinjaValues.Size));
        Work work = new((long)Int128.Min(budget, long.MaxValue));
        Interpreter interpreter = new(work, options.Clock.GetLocalNow());
        try
        {
            return (interpreter.Render(_statements, values), interpreter.Spans);
        }
        catch (JinjaFault fault)
        {
            throw new JinjaException(fault.Message, interpreter.Line, fault);
        }
    }
}

/// <summary>A part of a rendered text that the template marks with {% generation %}.</summary>
/// <param name="Start">Index of its first character, in UTF-16 units as .NET counts them (Python counts characters).</param>
/// <param name="Length">Number of UTF-16 units.</param>
public readonly record struct GenerationSpan(int Start, int Length);
