namespace MLNetLora.Inference.Constraints;

/// <summary>
/// A part of a grammar. Terms say what is regular; these say what nests. Everything but a term begins with one that has no empty word, so that a rule
/// never comes back to itself without a byte between.
/// </summary>
internal abstract class GrammarNode
{
    /// <summary>More than any nesting: a part with this has no word that ends.</summary>
    public const int Endless = 1 << 20;

    /// <summary>How many levels of objects and arrays its shallowest word has; known when <see cref="Grammar"/> has looked at it.</summary>
    public int MinDepth { get; set; } = Endless;

    /// <summary>Bytes.</summary>
    internal sealed class Terminal(Term term) : GrammarNode
    {
        public Term Term => term;
    }

    /// <summary>One, then another.</summary>
    internal sealed class Sequence(GrammarNode first, GrammarNode rest) : GrammarNode
    {
        public GrammarNode First => first;

        public GrammarNode Rest => rest;
    }

    /// <summary>One of several.</summary>
    internal sealed class Choice(IReadOnlyList<GrammarNode> items) : GrammarNode
    {
        public IReadOnlyList<GrammarNode> Items => items;
    }

    /// <summary>One a number of times.</summary>
    internal sealed class Repeat(GrammarNode item, int min, int max) : GrammarNode
    {
        private Repeat? _next;

        public GrammarNode Item => item;

        public int Min => min;

        public int Max => max;

        /// <summary>What is left after one.</summary>
        public Repeat Next => _next ??= min == 0 && max == Term.Unlimited
            ? this
            : new Repeat(item, Math.Max(0, min - 1), max == Term.Unlimited ? max : max - 1) { MinDepth = min > 1 ? MinDepth : 0 };
    }

    /// <summary>One level deeper.</summary>
    internal sealed class Nested(GrammarNode inner) : GrammarNode
    {
        public GrammarNode Inner => inner;
    }

    /// <summary>What may be referred to before it is known.</summary>
    internal sealed class Rule : GrammarNode
    {
        /// <summary>Where it stands in a schema; null where it does not.</summary>
        public string? Pointer { get; init; }

        public GrammarNode Body { get; set; } = null!;
    }
}
