namespace MLNetLora.Inference.Constraints;

/// <summary>A regular expression over characters.</summary>
internal abstract record Pattern
{
    /// <summary>The empty text.</summary>
    public static Pattern Nothing { get; } = new Sequence([]);

    /// <summary>Any text.</summary>
    public static Pattern AnyText { get; } = new Repeat(new Set(CharacterSet.All), 0, Term.Unlimited);

    /// <summary>The same over bytes.</summary>
    /// <param name="store">Makes the terms.</param>
    /// <param name="spell">How a character of a set is written.</param>
    public Term ToTerm(TermStore store, Func<CharacterSet, Term> spell)
    {
        store.Spend(1);
        return this switch
        {
            Set set => spell(set.Characters),
            Sequence sequence => store.Sequence([.. sequence.Parts.Select(part => part.ToTerm(store, spell))]),
            Choice choice => store.Union([.. choice.Parts.Select(part => part.ToTerm(store, spell))]),
            Repeat repeat => store.Repeat(repeat.Part.ToTerm(store, spell), repeat.Min, repeat.Max),
            _ => throw new InvalidOperationException("An anchor is left."),
        };
    }

    /// <summary>One character of a set.</summary>
    internal sealed record Set(CharacterSet Characters) : Pattern;

    /// <summary>Parts, one after the other.</summary>
    internal sealed record Sequence(IReadOnlyList<Pattern> Parts) : Pattern;

    /// <summary>One of several.</summary>
    internal sealed record Choice(IReadOnlyList<Pattern> Parts) : Pattern;

    /// <summary>A part a number of times.</summary>
    internal sealed record Repeat(Pattern Part, int Min, int Max) : Pattern;

    /// <summary>^ or $.</summary>
    internal sealed record Anchor(bool IsEnd) : Pattern;
}
