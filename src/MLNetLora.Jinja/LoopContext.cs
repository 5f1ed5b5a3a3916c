namespace MLNetLora.Jinja;

/// <summary>What <c>loop</c> is inside a for.</summary>
/// <param name="items">What is looped over.</param>
internal sealed class LoopContext(IReadOnlyList<object?> items)
{
    private IReadOnlyList<object?>? _changed;

    /// <summary>Index of the element that it is at.</summary>
    public int Index { get; set; }

    /// <summary>An attribute; null where there is none of this name.</summary>
    public Func<object?>? Attribute(string name, Work work) => name switch
    {
        "index" => () => (long)Index + 1,
        "index0" => () => (long)Index,
        "revindex" => () => (long)items.Count - Index,
        "revindex0" => () => (long)items.Count - Index - 1,
        "first" => () => Index == 0,
        "last" => () => Index == items.Count - 1,
        "length" => () => (long)items.Count,
        "previtem" => () => Index > 0 ? items[Index - 1] : new Undefined("loop.previtem"),
        "nextitem" => () => Index + 1 < items.Count ? items[Index + 1] : new Undefined("loop.nextitem"),
        "cycle" => () => new JinjaFunction("loop.cycle", Cycle),
        "changed" => () => new JinjaFunction("loop.changed", arguments => Changed(arguments, work)),
        _ => null,
    };

    private object? Cycle(Arguments arguments) => arguments.Positional.Count > 0
        ? arguments.Positional[Index % arguments.Positional.Count]
        : throw new JinjaFault("loop.cycle needs something to choose from");

    private bool Changed(Arguments arguments, Work work)
    {
        bool same = _changed is not null
            && _changed.Count == arguments.Positional.Count
            && _changed.Zip(arguments.Positional).All(pair => Python.AreEqual(pair.First, pair.Second, work));
        _changed = arguments.Positional;
        return !same;
    }
}
