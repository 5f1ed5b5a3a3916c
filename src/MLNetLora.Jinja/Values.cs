namespace MLNetLora.Jinja;

// A value of a template is null (none), bool, long, BigInteger, double, TaggedText, or one of the types below. None of them reaches anything but itself.

/// <summary>What a name or key that is not there has as its value.</summary>
/// <param name="name">What was asked for.</param>
/// <param name="why">Why it may not be used even as something missing; null where it is simply missing.</param>
internal sealed class Undefined(string name, string? why = null)
{
    /// <summary>What is wrong with using it.</summary>
    public JinjaFault Fault() => new(why ?? $"'{name}' is undefined");

    /// <summary>Fails where not even asking for it is allowed.</summary>
    public void Check()
    {
        if (why is not null)
        {
            throw Fault();
        }
    }
}

/// <summary>What kind of sequence a <see cref="JinjaList"/> is.</summary>
internal enum ListKind
{
    /// <summary>A list.</summary>
    List,

    /// <summary>A tuple.</summary>
    Tuple,

    /// <summary>What filters such as map and select give: it can be looped over, but has no length and counts as true.</summary>
    Generator,
}

/// <summary>A list, tuple or generator.</summary>
internal sealed class JinjaList(IReadOnlyList<object?> items, ListKind kind = ListKind.List)
{
    /// <summary>Its elements.</summary>
    public IReadOnlyList<object?> Items { get; } = items;

    /// <summary>What it is.</summary>
    public ListKind Kind { get; } = kind;
}

/// <summary>A dictionary in the order in which its keys came. Keys are texts, numbers, truth values or none.</summary>
internal sealed class JinjaDict
{
    private readonly Dictionary<object, int> _index = [];
    private readonly List<(object? Key, object? Value)> _items = [];

    /// <summary>The pairs.</summary>
    public IReadOnlyList<(object? Key, object? Value)> Items => _items;

    /// <summary>Sets a value; a key that is there already keeps its place.</summary>
    public void Set(object? key, object? value)
    {
        object identity = Identity(key);
        if (_index.TryGetValue(identity, out int at))
        {
            _items[at] = (_items[at].Key, value);
            return;
        }
        _index.Add(identity, _items.Count);
        _items.Add((key, value));
    }

    /// <summary>Looks a key up.</summary>
    public bool TryGet(object? key, out object? value)
    {
        bool found = _index.TryGetValue(Identity(key), out int at);
        value = found ? _items[at].Value : null;
        return found;
    }

    /// <summary>Looks a key up by its text.</summary>
    public bool TryGet(string key, out object? value)
    {
        bool found = _index.TryGetValue(key, out int at);
        value = found ? _items[at].Value : null;
        return found;
    }

    private static object Identity(object? key) => key switch
    {
        null => DBNull.Value,
        TaggedText text => text.Value,
        bool truth => truth ? 1L : 0L,
        double number when number == Math.Floor(number) && Math.Abs(number) < 1e15 => (long)number,
        long or double => key,
        Undefined undefined => throw undefined.Fault(),
        _ => throw new JinjaFault($"a {Python.TypeName(key)} cannot be a key of a dictionary"),
    };
}

/// <summary>namespace(…): the one thing whose attributes a template may change.</summary>
internal sealed class JinjaNamespace
{
    /// <summary>Its attributes.</summary>
    public Dictionary<string, object?> Attributes { get; } = new(StringComparer.Ordinal);
}

/// <summary>Something that can be called: a macro, a global function, a method of a value.</summary>
internal sealed class JinjaFunction(string name, Func<Arguments, object?> body)
{
    /// <summary>Its name, for messages.</summary>
    public string Name { get; } = name;

    /// <summary>Calls it.</summary>
    public object? Invoke(Arguments arguments) => body(arguments);
}

/// <summary>The evaluated arguments of one call.</summary>
/// <param name="function">What is called, for messages.</param>
/// <param name="positional">Those without a name.</param>
/// <param name="named">Those with one.</param>
internal sealed class Arguments(string function, IReadOnlyList<object?> positional, IReadOnlyList<(string Name, object? Value)> named)
{
    /// <summary>Those without a name.</summary>
    public IReadOnlyList<object?> Positional { get; } = positional;

    /// <summary>Those with one.</summary>
    public IReadOnlyList<(string Name, object? Value)> Named { get; } = named;

    /// <summary>The argument at a position or with a name; null where it is not given.</summary>
    public object? Get(int position, string name) => TryGet(position, name, out object? value) ? value : null;

    /// <summary>The argument at a position or with a name.</summary>
    public bool TryGet(int position, string name, out object? value)
    {
        if (position < Positional.Count)
        {
            value = Positional[position];
            return true;
        }
        foreach ((string key, object? given) in Named)
        {
            if (key != name)
            {
                continue;
            }

            value = given;
            return true;
        }
        value = null;
        return false;
    }

    /// <summary>An argument that must be there.</summary>
    public object? Require(int position, string name) => TryGet(position, name, out object? value) ? value : throw new JinjaFault($"{function} needs '{name}'");

    /// <summary>A text; a default where it is not given or none.</summary>
    public TaggedText? Text(int position, string name) => Get(position, name) switch
    {
        null => null,
        TaggedText text => text,
        Undefined undefined => throw undefined.Fault(),
        object other => throw new JinjaFault($"'{name}' of {function} must be a text, not a {Python.TypeName(other)}"),
    };

    /// <summary>A text that must be there.</summary>
    public TaggedText RequireText(int position, string name) => Text(position, name) ?? throw new JinjaFault($"'{name}' of {function} must be a text");

    /// <summary>A whole number; a default where it is not given or none.</summary>
    public long Integer(int position, string name, long otherwise) => Get(position, name) switch
    {
        null => otherwise,
        long number => number,
        bool truth => truth ? 1 : 0,
        Undefined undefined => throw undefined.Fault(),
        object other => throw new JinjaFault($"'{name}' of {function} must be a whole number, not a {Python.TypeName(other)}"),
    };

    /// <summary>Whether an argument is true; a default where it is not given.</summary>
    public bool Truth(int position, string name, bool otherwise) => TryGet(position, name, out object? value) ? Python.IsTrue(value) : otherwise;

    /// <summary>The arguments behind the first ones.</summary>
    public Arguments Skip(int count, string next) => new(next, [.. Positional.Skip(count)], Named);
}
