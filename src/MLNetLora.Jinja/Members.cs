namespace MLNetLora.Jinja;

/// <summary>Attributes, elements and slices of values.</summary>
internal static class Members
{
    private static readonly HashSet<string> Changing =
        ["append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault", "sort", "update", "fromkeys", "__class__"];

    /// <summary>value.name: a method, else an element with this key.</summary>
    public static object? Attribute(object? target, string name, Work work) => Method(target, name, work) ?? target switch
    {
        JinjaDict dict => dict.TryGet(name, out object? value) ? value : new Undefined(name),
        JinjaNamespace attributes => attributes.Attributes.TryGetValue(name, out object? value) ? value : new Undefined(name),
        LoopContext loop => loop.Attribute(name, work) is { } value ? value() : new Undefined($"loop.{name}"),
        Undefined undefined => throw undefined.Fault(),
        _ => new Undefined(name),
    };

    /// <summary>value[key]: an element, else a method of this name.</summary>
    public static object? Item(object? target, object? key, Work work)
    {
        if (target is Undefined undefined)
        {
            throw undefined.Fault();
        }

        (key as Undefined)?.Check();
        if (target is JinjaDict dict && key is not (JinjaList or JinjaDict or Undefined) && dict.TryGet(key, out object? found))
        {
            return found;
        }

        if (key is bool truth)
        {
            key = truth ? 1L : 0L;
        }

        if (key is long index && target is JinjaList { Kind: not ListKind.Generator } list)
        {
            index = index < 0 ? index + list.Items.Count : index;
            return index >= 0 && index < list.Items.Count ? list.Items[(int)index] : new Undefined($"element {key}");
        }
        if (key is long at && target is TaggedText text)
        {
            int count = CodePoints.Count(text.Value);
            at = at < 0 ? at + count : at;
            work.Charge(text.Length);
            int start = at >= 0 && at < count ? CodePoints.IndexOf(text.Value, at) : -1;
            return start < 0 ? new Undefined($"character {key}") : text.Slice(start, CodePoints.LengthAt(text.Value, start));
        }
        string name = key is TaggedText named ? named.Value : $"element {PythonText.Str(key, work).Value}";
        return key is TaggedText && target is not JinjaDict ? Attribute(target, name, work) : Method(target, name, work) ?? new Undefined(name);
    }

    /// <summary>value[start:stop:step].</summary>
    public static object? Slice(object? target, long? start, long? stop, long? step, Work work)
    {
        long by = step ?? 1;
        if (by == 0)
        {
            throw new JinjaFault("the step of a slice is 0");
        }

        switch (target)
        {
            case JinjaList { Kind: not ListKind.Generator } list:
                return new JinjaList([.. Indices(list.Items.Count, start, stop, by, work).Select(i => list.Items[i])], list.Kind);
            case TaggedText text:
                work.Charge(text.Length);
                int count = CodePoints.Count(text.Value);
                if (by == 1)
                {
                    (long first, long last) = Bounds(count, start, stop, by);
                    int from = CodePoints.IndexOf(text.Value, first);
                    return last <= first ? TaggedText.Empty : text.Slice(from, CodePoints.IndexOf(text.Value, last) - from);
                }
                TaggedText[] characters = [.. CodePoints.Split(text)];
                TaggedTextBuilder result = new(work);
                foreach (int i in Indices(count, start, stop, by, work))
                {
                    result.Append(characters[i]);
                }

                return result.ToText();
            case Undefined undefined:
                throw undefined.Fault();
            default:
                return new Undefined($"a slice of a {Python.TypeName(target)}");
        }
    }

    private static (long Start, long Stop) Bounds(long count, long? start, long? stop, long step)
    {
        (long low, long high) = step > 0 ? (0, count) : (-1, count - 1);
        return (Place(start, step > 0 ? low : high), Place(stop, step > 0 ? high : low));

        long Place(long? bound, long otherwise) => bound is not { } value ? otherwise : Math.Clamp(value < 0 ? value + count : value, low, high);
    }

    private static IEnumerable<int> Indices(int count, long? start, long? stop, long step, Work work)
    {
        (long from, long to) = Bounds(count, start, stop, step);
        // A step larger than the list leaves it with the first one; so no sum overflows.
        step = Math.Clamp(step, -count - 1L, count + 1L);
        for (long i = from; step > 0 ? i < to : i > to; i += step)
        {
            work.Charge(1);
            yield return (int)i;
        }
    }

    private static object? Method(object? target, string name, Work work)
    {
        switch (target)
        {
            case TaggedText text when StringMethods.Has(name):
                return new JinjaFunction(name, arguments => StringMethods.Invoke(text, name, arguments, work));
            case JinjaDict dict:
                JinjaFunction? method = name switch
                {
                    "items" => new(name, _ => Items(dict, work)),
                    "keys" => new(name, _ => new JinjaList(Python.Iterate(dict, work))),
                    "values" => new(name, _ => new JinjaList([.. dict.Items.Select(item => item.Value)])),
                    "copy" => new(name, _ => dict),
                    "get" => new(name, arguments => dict.TryGet(arguments.Require(0, "key"), out object? value) ? value : arguments.Get(1, "default")),
                    _ => null,
                };
                return method is null ? Forbidden(name) : method;
            case JinjaList { Kind: not ListKind.Generator } list:
                JinjaFunction? listMethod = name switch
                {
                    "index" => new(name, arguments => (long)Index(list, arguments.Require(0, "value"), work)),
                    "count" => new(name, arguments => (long)list.Items.Count(item => Python.AreEqual(item, arguments.Require(0, "value"), work))),
                    "copy" => new(name, _ => list),
                    _ => null,
                };
                return listMethod is null ? Forbidden(name) : listMethod;
            default:
                return null;
        }
    }

    /// <summary>The pairs of a dictionary as tuples.</summary>
    public static JinjaList Items(JinjaDict dict, Work work)
    {
        work.Charge(dict.Items.Count * 2L);
        return new JinjaList([.. dict.Items.Select(item => new JinjaList([item.Key, item.Value], ListKind.Tuple))]);
    }

    /// <summary>transformers renders in a sandbox in which nothing can be changed.</summary>
    private static Undefined? Forbidden(string name) => Changing.Contains(name)
        ? new Undefined(name, $"'{name}' would change a value, which templates may not; use + or a namespace")
        : null;

    private static int Index(JinjaList list, object? value, Work work)
    {
        for (int i = 0; i < list.Items.Count; i++)
        {
            if (Python.AreEqual(list.Items[i], value, work))
            {
                return i;
            }
        }
        throw new JinjaFault("index: the value is not in the list");
    }
}
