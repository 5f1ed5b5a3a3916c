namespace MLNetLora.Jinja;

/// <summary>Jinja's filters on lists, dictionaries and the characters of texts.</summary>
internal static class SequenceFilters
{
    /// <summary>Registers them.</summary>
    public static void AddTo(Dictionary<string, FilterBody> filters)
    {
        filters["length"] = filters["count"] = (evaluator, value, _) => Python.Count(value, evaluator.Work);
        filters["list"] = (evaluator, value, _) => new JinjaList(Python.Iterate(value, evaluator.Work));
        filters["first"] = (evaluator, value, _) => Python.Iterate(value, evaluator.Work) is [var first, ..]
            ? first
            : new Undefined("the first element of nothing");
        filters["last"] = (evaluator, value, _) => Python.Iterate(value, evaluator.Work) is [.., var last]
            ? last
            : new Undefined("the last element of nothing");
        filters["join"] = Join;
        filters["reverse"] = Reverse;
        filters["sort"] = Sort;
        filters["dictsort"] = DictSort;
        filters["unique"] = Unique;
        filters["min"] = (evaluator, value, arguments) => Extreme(evaluator, value, arguments, -1);
        filters["max"] = (evaluator, value, arguments) => Extreme(evaluator, value, arguments, 1);
        filters["sum"] = Sum;
        filters["map"] = Map;
        filters["select"] = (evaluator, value, arguments) => Select(evaluator, value, arguments, byAttribute: false, keep: true);
        filters["reject"] = (evaluator, value, arguments) => Select(evaluator, value, arguments, byAttribute: false, keep: false);
        filters["selectattr"] = (evaluator, value, arguments) => Select(evaluator, value, arguments, byAttribute: true, keep: true);
        filters["rejectattr"] = (evaluator, value, arguments) => Select(evaluator, value, arguments, byAttribute: true, keep: false);
    }

    private static TaggedText Join(Evaluator evaluator, object? value, Arguments arguments)
    {
        object? path = arguments.Get(1, "attribute");
        TaggedText separator = PythonText.Str(arguments.Get(0, "d") ?? TaggedText.Empty, evaluator.Work);
        IEnumerable<object?> items = Python.Iterate(value, evaluator.Work);
        if (path is not null)
        {
            items = items.Select(item => Filters.Path(item, path, evaluator.Work));
        }

        object?[] texts = [.. items.Select(item => PythonText.Str(item, evaluator.Work))];
        return StringMethods.Join(separator, texts, evaluator.Work);
    }

    private static object Reverse(Evaluator evaluator, object? value, Arguments arguments)
    {
        IReadOnlyList<object?> reversed = [.. Python.Iterate(value, evaluator.Work).Reverse()];
        return value is TaggedText ? StringMethods.Join(TaggedText.Empty, reversed, evaluator.Work) : new JinjaList(reversed, ListKind.Generator);
    }

    private static JinjaList Sort(Evaluator evaluator, object? value, Arguments arguments)
    {
        bool reverse = arguments.Truth(0, "reverse", false);
        Func<object?, object?[]> key = Keys(evaluator, arguments.Get(2, "attribute"), arguments.Truth(1, "case_sensitive", false));
        (object? Item, object?[] Key)[] items = [.. Python.Iterate(value, evaluator.Work).Select(item => (item, key(item)))];
        int sign = reverse ? -1 : 1;
        return new JinjaList([.. Sorting.Sort(items, (a, b) => Order(a.Key, b.Key, evaluator.Work) * sign, evaluator.Work).Select(item => item.Item)]);
    }

    private static JinjaList DictSort(Evaluator evaluator, object? value, Arguments arguments)
    {
        JinjaDict dict = value as JinjaDict ?? throw new JinjaFault($"dictsort needs a dictionary, not a {Python.TypeName(value)}");
        bool caseSensitive = arguments.Truth(0, "case_sensitive", false);
        int part = arguments.Text(1, "by")?.Value switch { null or "key" => 0, "value" => 1, _ => throw new JinjaFault("dictsort sorts by key or value") };
        int sign = arguments.Truth(2, "reverse", false) ? -1 : 1;
        IReadOnlyList<object?> pairs = Members.Items(dict, evaluator.Work).Items;
        return new JinjaList(Sorting.Sort(pairs, (a, b) => Python.Compare(Key(a), Key(b), evaluator.Work) * sign, evaluator.Work));

        object? Key(object? pair) => Fold(((JinjaList)pair!).Items[part], caseSensitive);
    }

    private static JinjaList Unique(Evaluator evaluator, object? value, Arguments arguments)
    {
        Func<object?, object?[]> key = Keys(evaluator, arguments.Get(1, "attribute"), arguments.Truth(0, "case_sensitive", false));
        JinjaDict seen = new();
        foreach (object? item in Python.Iterate(value, evaluator.Work))
        {
            object? identity = key(item)[0];
            if (!seen.TryGet(identity, out _))
            {
                seen.Set(identity, item);
            }
        }
        return new JinjaList([.. seen.Items.Select(item => item.Value)], ListKind.Generator);
    }

    private static object? Extreme(Evaluator evaluator, object? value, Arguments arguments, int sign)
    {
        Func<object?, object?[]> key = Keys(evaluator, arguments.Get(1, "attribute"), arguments.Truth(0, "case_sensitive", false));
        IReadOnlyList<object?> items = Python.Iterate(value, evaluator.Work);
        if (items.Count == 0)
        {
            return new Undefined("the smallest or largest element of nothing");
        }

        object? best = items[0];
        foreach (object? item in items.Skip(1))
        {
            if (Order(key(item), key(best), evaluator.Work) * sign > 0)
            {
                best = item;
            }
        }
        return best;
    }

    private static object? Sum(Evaluator evaluator, object? value, Arguments arguments)
    {
        object? path = arguments.Get(0, "attribute");
        object? sum = arguments.TryGet(1, "start", out object? start) ? start : 0L;
        foreach (object? item in Python.Iterate(value, evaluator.Work))
        {
            sum = Arithmetic.Apply("+", sum, path is null ? item : Filters.Path(item, path, evaluator.Work), evaluator.Work);
        }

        return sum;
    }

    private static JinjaList Map(Evaluator evaluator, object? value, Arguments arguments)
    {
        IReadOnlyList<object?> items = Python.Iterate(value, evaluator.Work);
        if (arguments.Positional.Count == 0)
        {
            object? path = arguments.Require(0, "attribute");
            bool hasDefault = arguments.TryGet(1, "default", out object? otherwise);
            return Result(item => Filters.Path(item, path, evaluator.Work) is var found && found is Undefined && hasDefault ? otherwise : found);
        }
        string name = arguments.RequireText(0, "filter").Value;
        Arguments rest = arguments.Skip(1, name);
        return Result(item => Filters.Apply(evaluator, name, item, rest));

        JinjaList Result(Func<object?, object?> map) => new([.. items.Select(map)], ListKind.Generator);
    }

    private static JinjaList Select(Evaluator evaluator, object? value, Arguments arguments, bool byAttribute, bool keep)
    {
        object? path = byAttribute ? arguments.Require(0, "attribute") : null;
        int skip = byAttribute ? 1 : 0;
        string? test = arguments.Positional.Count > skip ? arguments.RequireText(skip, "test").Value : null;
        Arguments rest = arguments.Skip(skip + 1, test ?? "");
        return new JinjaList([.. Python.Iterate(value, evaluator.Work).Where(item =>
        {
            object? tested = byAttribute ? Filters.Path(item, path, evaluator.Work) : item;
            return (test is null ? Python.IsTrue(tested) : Tests.Apply(evaluator, test, tested, rest)) == keep;
        })], ListKind.Generator);
    }

    /// <summary>What elements are compared by: themselves or their attributes, in small letters unless case counts.</summary>
    private static Func<object?, object?[]> Keys(Evaluator evaluator, object? path, bool caseSensitive)
    {
        object?[] paths = path is TaggedText text ? [.. text.Value.Split(',').Select(part => new TaggedText(part, Origin.Template))] : [path];
        return item => [.. paths.Select(part => Fold(part is null ? item : Filters.Path(item, part, evaluator.Work), caseSensitive))];
    }

    private static int Order(object?[] left, object?[] right, Work work)
    {
        for (int i = 0; i < left.Length; i++)
        {
            int order = Python.Compare(left[i], right[i], work);
            if (order != 0)
            {
                return order;
            }
        }
        return 0;
    }

    private static object? Fold(object? value, bool caseSensitive) =>
        value is TaggedText text && !caseSensitive ? text.With(StringMethods.Lower(text.Value)) : value;
}
