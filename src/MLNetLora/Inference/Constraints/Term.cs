namespace MLNetLora.Inference.Constraints;

/// <summary>What kind of expression a term is.</summary>
internal enum TermKind : byte
{
    /// <summary>No word.</summary>
    Empty,

    /// <summary>The word without bytes.</summary>
    Epsilon,

    /// <summary>One byte of a set.</summary>
    Bytes,

    /// <summary>A first part and the rest.</summary>
    Sequence,

    /// <summary>One of several.</summary>
    Union,

    /// <summary>A part a number of times.</summary>
    Repeat,

    /// <summary>What all of several say.</summary>
    Intersection,

    /// <summary>What a part does not say.</summary>
    Complement,

    /// <summary>Digits that go on from a number whose remainder is known and end with a multiple of the divisor.</summary>
    Multiple,
}

/// <summary>
/// A regular expression over bytes, and at the same time a state of the automaton that recognizes it: what may follow after a byte is again a term, its
/// derivative (Brzozowski 1964; Owens, Reppy, Turon 2009). Counters and intersections so cost one state at a time, where an automaton that is built at once
/// would have thousands. Equal terms of one store are one object.
/// </summary>
internal sealed class Term(TermKind kind, ByteSet set, Term[] items, int min, int max)
{
    /// <summary>No limit of a counter.</summary>
    public const int Unlimited = int.MaxValue;

    private static int s_lastId;

    /// <summary>What it is.</summary>
    public TermKind Kind => kind;

    /// <summary>The bytes of <see cref="TermKind.Bytes"/>.</summary>
    public ByteSet Set => set;

    /// <summary>The parts.</summary>
    public Term[] Items => items;

    /// <summary>Fewest repetitions; the divisor of <see cref="TermKind.Multiple"/>.</summary>
    public int Min => min;

    /// <summary>Most repetitions; the remainder of <see cref="TermKind.Multiple"/>.</summary>
    public int Max => max;

    /// <summary>Orders the parts of unions.</summary>
    public int Id { get; } = Interlocked.Increment(ref s_lastId);

    /// <summary>Whether the word without bytes is one of its words.</summary>
    public bool IsNullable { get; } = kind switch
    {
        TermKind.Epsilon => true,
        TermKind.Sequence or TermKind.Intersection => Array.TrueForAll(items, item => item.IsNullable),
        TermKind.Union => Array.Exists(items, item => item.IsNullable),
        TermKind.Repeat => min == 0 || items[0].IsNullable,
        TermKind.Complement => !items[0].IsNullable,
        TermKind.Multiple => max == 0,
        _ => false,
    };

    /// <summary>The largest finite counter in it, those inside of intersections and complements left out.</summary>
    public int LargestCounter { get; } = kind switch
    {
        TermKind.Sequence or TermKind.Union => items.Max(item => item.LargestCounter),
        TermKind.Repeat => Math.Max(items[0].LargestCounter, max == Unlimited ? min : max),
        _ => 0,
    };

    /// <summary>Whether it has no word.</summary>
    public bool IsEmpty => kind == TermKind.Empty;

    /// <summary>Whether it is one whose words must be looked for, because it may have none without being <see cref="TermKind.Empty"/>.</summary>
    public bool NeedsSearch => kind is TermKind.Intersection or TermKind.Complement;

    /// <summary>Whether the search for words is done.</summary>
    public bool IsSearched { get; set; }

    /// <summary>Whether the search found none.</summary>
    public bool IsDead { get; set; }

    /// <summary>For every byte the number of its class: bytes of one class have one derivative.</summary>
    public byte[]? Classes { get; set; }

    /// <summary>The derivative of each class; null where it is not known yet.</summary>
    public Term?[]? Targets { get; set; }
}
