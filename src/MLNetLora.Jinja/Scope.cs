namespace MLNetLora.Jinja;

/// <summary>The names of one part of a template; what is not found in it is looked for in the part around it.</summary>
internal sealed class Scope(Scope? around)
{
    private readonly Dictionary<string, object?> _values = new(StringComparer.Ordinal);

    /// <summary>Gives a name a value here.</summary>
    public void Set(string name, object? value) => _values[name] = value;

    /// <summary>The value of a name; something undefined where nobody gave it one.</summary>
    public object? Get(string name)
    {
        for (Scope? scope = this; scope is not null; scope = scope.Outer)
        {
            if (scope._values.TryGetValue(name, out object? value))
            {
                return value;
            }
        }
        return new Undefined(name);
    }

    private Scope? Outer { get; } = around;
}
