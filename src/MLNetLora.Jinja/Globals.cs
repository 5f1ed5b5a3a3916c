namespace MLNetLora.Jinja;

/// <summary>The functions that every template can call.</summary>
internal static class Globals
{
    /// <summary>Sets their names.</summary>
    public static void Add(Scope scope, Work work, DateTimeOffset now)
    {
        Set("range", arguments => Range(arguments, work));
        Set("dict", arguments => Dictionary(arguments));
        Set("namespace", arguments => Namespace(arguments));
        Set("raise_exception", arguments => throw new JinjaFault(PythonText.Str(arguments.Require(0, "message"), work).Value));
        Set("strftime_now", arguments => new TaggedText(Strftime.Format(now, arguments.RequireText(0, "format").Value, work), Origin.Template));

        void Set(string name, Func<Arguments, object?> body) => scope.Set(name, new JinjaFunction(name, body));
    }

    private static JinjaList Range(Arguments arguments, Work work)
    {
        if (arguments.Positional.Count is 0 or > 3)
        {
            throw new JinjaFault("range takes one to three whole numbers");
        }

        bool single = arguments.Positional.Count == 1;
        long start = single ? 0 : arguments.Integer(0, "start", 0);
        long stop = arguments.Integer(single ? 0 : 1, "stop", 0);
        long step = arguments.Integer(2, "step", 1);
        if (step == 0)
        {
            throw new JinjaFault("the step of range is 0");
        }

        Int128 count = Int128.Max(0, (((Int128)stop - start) + step - Math.Sign(step)) / step);
        // Jinja's sandbox has the same bound.
        if (count > 100_000)
        {
            throw new JinjaFault("range has more than 100000 numbers");
        }

        work.Charge((long)count);
        return new JinjaList([.. Enumerable.Range(0, (int)count).Select(i => (object?)(start + (i * step)))]);
    }

    private static JinjaDict Dictionary(Arguments arguments)
    {
        JinjaDict dict = new();
        if (arguments.Positional.Count > 0)
        {
            JinjaDict first = arguments.Positional[0] as JinjaDict ?? throw new JinjaFault("dict takes a dictionary and named values");
            foreach ((object? key, object? value) in first.Items)
            {
                dict.Set(key, value);
            }
        }
        foreach ((string name, object? value) in arguments.Named)
        {
            dict.Set(new TaggedText(name, Origin.Template), value);
        }

        return dict;
    }

    private static JinjaNamespace Namespace(Arguments arguments)
    {
        JinjaNamespace attributes = new();
        foreach ((object? key, object? value) in Dictionary(arguments).Items)
        {
            attributes.Attributes[key is TaggedText name ? name.Value : throw new JinjaFault("an attribute's name is a text")] = value;
        }

        return attributes;
    }
}
