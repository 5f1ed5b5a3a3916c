namespace MLNetLora.Inference.Constraints;

/// <summary>Objects and arrays as parts of a grammar.</summary>
internal static class JsonNodes
{
    /// <summary>Parts, one after the other.</summary>
    public static GrammarNode Sequence(params ReadOnlySpan<GrammarNode> parts)
    {
        GrammarNode node = parts[^1];
        for (int i = parts.Length - 2; i >= 0; i--)
        {
            node = new GrammarNode.Sequence(parts[i], node);
        }

        return node;
    }

    /// <summary>Bytes.</summary>
    public static GrammarNode Of(Term term) => new GrammarNode.Terminal(term);

    /// <summary>One of several.</summary>
    public static GrammarNode Choice(params IReadOnlyList<GrammarNode> items) => items.Count == 1 ? items[0] : new GrammarNode.Choice(items);

    /// <summary>Any value.</summary>
    public static GrammarNode AnyValue()
    {
        GrammarNode.Rule value = new();
        value.Body = Choice(Of(JsonTerms.Scalar), Array([], value, 0, Term.Unlimited), AnyObject(value));
        return value;
    }

    /// <summary>Any object.</summary>
    /// <param name="value">Any value.</param>
    public static GrammarNode AnyObject(GrammarNode value) => Object([], JsonTerms.String, value);

    /// <summary>An object: its properties in their order, then others.</summary>
    /// <param name="properties">Those that are named, those that may be left out too.</param>
    /// <param name="name">The names of others.</param>
    /// <param name="others">Their values; null where there are none.</param>
    public static GrammarNode Object(IReadOnlyList<Property> properties, Term name, GrammarNode? others)
    {
        GrammarNode close = Of(JsonTerms.CloseObject);
        GrammarNode comma = Of(JsonTerms.Comma);
        // From behind: `more` is what may come after a property, `names` begins with the name of the next.
        GrammarNode more = close;
        GrammarNode? names = null;
        if (others is not null)
        {
            GrammarNode.Rule rest = new();
            names = Sequence(Of(name), Of(JsonTerms.Colon), others, rest);
            rest.Body = more = Choice(Sequence(comma, names), close);
        }

        bool isRequired = false;
        for (int i = properties.Count - 1; i >= 0; i--)
        {
            GrammarNode property = Sequence(Of(properties[i].Name), Of(JsonTerms.Colon), properties[i].Value, more);
            isRequired |= properties[i].IsRequired;
            names = names is null || properties[i].IsRequired ? property : Choice(property, names);
            more = isRequired ? Sequence(comma, names) : Choice(Sequence(comma, names), close);
        }

        GrammarNode empty = Of(JsonTerms.CloseEmptyObject);
        GrammarNode inner = names is null ? empty : isRequired ? names : Choice(names, empty);
        return new GrammarNode.Nested(Sequence(Of(JsonTerms.OpenObject), inner));
    }

    /// <summary>An array.</summary>
    /// <param name="first">The items that it begins with.</param>
    /// <param name="others">Those behind them; null where there are none.</param>
    /// <param name="min">Fewest items.</param>
    /// <param name="max">Most items.</param>
    public static GrammarNode Array(IReadOnlyList<GrammarNode> first, GrammarNode? others, int min, int max)
    {
        GrammarNode close = Of(JsonTerms.CloseArray);
        GrammarNode comma = Of(JsonTerms.Comma);
        int count = Math.Min(first.Count, max);
        GrammarNode? items = null; // from behind: what begins with the item at i
        GrammarNode more = close; // what comes behind the item before it
        if (others is not null && max > count)
        {
            int most = max == Term.Unlimited ? max : max - count;
            int fewest = Math.Max(0, min - count);
            GrammarNode Rest(int before) => Sequence(
                new GrammarNode.Repeat(Sequence(comma, others), Math.Max(0, fewest - before), most == Term.Unlimited ? most : most - before), close);
            more = Rest(0);
            items = Sequence(others, Rest(1));
        }

        for (int i = count - 1; i >= 0; i--)
        {
            items = Sequence(first[i], more);
            more = i > min - 1 && i > 0 ? Choice(Sequence(comma, items), close) : Sequence(comma, items);
        }

        GrammarNode empty = Of(JsonTerms.CloseEmptyArray);
        GrammarNode inner = items is null ? empty : min == 0 ? Choice(items, empty) : items;
        return new GrammarNode.Nested(Sequence(Of(JsonTerms.OpenArray), inner));
    }

    /// <summary>A property of an object.</summary>
    /// <param name="Name">Its name with the quotes.</param>
    /// <param name="Value">Its value.</param>
    /// <param name="IsRequired">Whether it is always there.</param>
    internal readonly record struct Property(Term Name, GrammarNode Value, bool IsRequired);
}
