using System.Diagnostics.CodeAnalysis;

namespace MLNetLora.Inference.Constraints;

/// <summary>
/// Makes terms, simplified so that equal languages mostly are one object, and their derivatives. For one thread at a time, but for a store that is
/// <see cref="Close">closed</see>.
/// </summary>
/// <param name="shared">A closed store whose terms are used where they are the same; null for none.</param>
internal sealed partial class TermStore(TermStore? shared = null)
{
    /// <summary>Most terms: some hundred bytes each.</summary>
    private const int MostTerms = 120_000;

    /// <summary>Most parts of one term: more come of expressions that are ambiguous in many ways.</summary>
    private const int MostParts = 4096;

    private readonly Dictionary<Key, Term> _terms = [];
    private long _work;

    /// <summary>No word.</summary>
    public static Term Empty { get; } = new(TermKind.Empty, default, [], 0, 0) { Classes = Partition.Trivial, Targets = new Term?[1] };

    /// <summary>The word without bytes.</summary>
    public static Term Epsilon { get; } = new(TermKind.Epsilon, default, [], 0, 0) { Classes = Partition.Trivial, Targets = [Empty] };

    /// <summary>How many terms it has.</summary>
    public int Count => _terms.Count;

    /// <summary>The work that is left: parts that may be looked at before a <see cref="ConstraintException"/>.</summary>
    public long WorkLeft
    {
        get => _work;
        set => _work = value;
    }

    /// <summary>One byte of a set.</summary>
    public Term Bytes(ByteSet set) => set.IsEmpty ? Empty : Intern(TermKind.Bytes, set, []);

    /// <summary>Certain bytes.</summary>
    public Term Literal(ReadOnlySpan<byte> bytes)
    {
        Term term = Epsilon;
        for (int i = bytes.Length - 1; i >= 0; i--)
        {
            term = Sequence(Bytes(ByteSet.Of(bytes[i])), term);
        }

        return term;
    }

    /// <summary>The UTF-8 of a text.</summary>
    public Term Literal(string text) => Literal(System.Text.Encoding.UTF8.GetBytes(text));

    /// <summary>One of several byte sequences; common beginnings are one part.</summary>
    public Term Literals(IEnumerable<byte[]> words)
    {
        byte[][] sorted = [.. words];
        Array.Sort(sorted, (x, y) => x.AsSpan().SequenceCompareTo(y));
        return Of(0, sorted.Length, 0);

        Term Of(int from, int to, int at)
        {
            List<Term> parts = [];
            while (from < to && sorted[from].Length == at)
            {
                parts.Add(Epsilon);
                from++;
            }

            if (to - from == 1)
            {
                parts.Add(Literal(sorted[from].AsSpan(at)));
                from = to;
            }

            while (from < to)
            {
                byte first = sorted[from][at];
                int end = from;
                while (end < to && sorted[end][at] == first)
                {
                    end++;
                }

                // Runs without a fork are gone through here, so that long words alike do not nest as deep as they are long.
                int fork = at + 1;
                while (sorted[from].Length > fork && sorted[end - 1].Length > fork && sorted[from][fork] == sorted[end - 1][fork])
                {
                    fork++;
                }

                parts.Add(Sequence(Literal(sorted[from].AsSpan(at, fork - at)), Of(from, end, fork)));
                from = end;
            }

            return Union(parts);
        }
    }

    /// <summary>Byte sequences of one length between two, both included.</summary>
    /// <param name="low">The first.</param>
    /// <param name="high">The last.</param>
    /// <param name="least">The least byte behind the first one.</param>
    /// <param name="most">The greatest byte behind the first one.</param>
    public Term Between(ReadOnlySpan<byte> low, ReadOnlySpan<byte> high, byte least, byte most)
    {
        if (low.Length == 1)
        {
            return Bytes(ByteSet.Range(low[0], high[0]));
        }

        if (low[0] == high[0])
        {
            return Sequence(Bytes(ByteSet.Of(low[0])), Between(low[1..], high[1..], least, most));
        }

        Span<byte> lowest = new byte[low.Length - 1];
        Span<byte> highest = new byte[low.Length - 1];
        lowest.Fill(least);
        highest.Fill(most);
        List<Term> parts = [];
        (int first, int last) = (low[0], high[0]);
        if (!low[1..].SequenceEqual(lowest))
        {
            parts.Add(Sequence(Bytes(ByteSet.Of(low[0])), Between(low[1..], highest, least, most)));
            first++;
        }

        if (!high[1..].SequenceEqual(highest))
        {
            parts.Add(Sequence(Bytes(ByteSet.Of(high[0])), Between(lowest, high[1..], least, most)));
            last--;
        }

        if (first <= last)
        {
            parts.Add(Sequence(Bytes(ByteSet.Range((byte)first, (byte)last)), Between(lowest, highest, least, most)));
        }

        return Union(parts);
    }

    /// <summary>Several, one after the other.</summary>
    public Term Sequence(params ReadOnlySpan<Term> parts)
    {
        Term term = Epsilon;
        for (int i = parts.Length - 1; i >= 0; i--)
        {
            term = Sequence(parts[i], term);
        }

        return term;
    }

    /// <summary>One, then another.</summary>
    public Term Sequence(Term first, Term rest)
    {
        if (first.IsEmpty || rest.IsEmpty)
        {
            return Empty;
        }

        if (first.Kind == TermKind.Epsilon)
        {
            return rest;
        }

        if (rest.Kind == TermKind.Epsilon)
        {
            return first;
        }

        if (first.Kind != TermKind.Sequence)
        {
            return Intern(TermKind.Sequence, default, [first, rest]);
        }

        List<Term> heads = [];
        for (; first.Kind == TermKind.Sequence; first = first.Items[1])
        {
            heads.Add(first.Items[0]);
        }

        rest = Sequence(first, rest);
        for (int i = heads.Count - 1; i >= 0; i--)
        {
            rest = Sequence(heads[i], rest);
        }

        return rest;
    }

    /// <summary>One of several.</summary>
    public Term Union(params IReadOnlyList<Term> parts)
    {
        // Byte sets become one, and so do those before the same rest.
        Dictionary<Term, ByteSet> sets = [];
        HashSet<Term> others = [];
        bool hasEpsilon = false;
        Term? everything = null;
        Add(parts);
        if (everything is not null)
        {
            return everything;
        }

        List<Term> items = [.. others];
        foreach ((Term rest, ByteSet set) in sets)
        {
            items.Add(Sequence(Bytes(set), rest));
        }

        if (hasEpsilon && !items.Exists(item => item.IsNullable))
        {
            items.Add(Epsilon);
        }

        return Parts(TermKind.Union, items);

        void Add(IReadOnlyList<Term> terms)
        {
            Spend(terms.Count);
            for (int i = 0; i < terms.Count; i++)
            {
                Term term = terms[i];
                switch (term.Kind)
                {
                    case TermKind.Empty: break;
                    case TermKind.Epsilon: hasEpsilon = true; break;
                    case TermKind.Union: Add(term.Items); break;
                    case TermKind.Bytes: sets[Epsilon] = sets.GetValueOrDefault(Epsilon) | term.Set; break;
                    case TermKind.Sequence when term.Items[0].Kind == TermKind.Bytes:
                        sets[term.Items[1]] = sets.GetValueOrDefault(term.Items[1]) | term.Items[0].Set;
                        break;
                    case TermKind.Complement when term.Items[0].IsEmpty: everything = term; break;
                    default: others.Add(term); break;
                }
            }
        }
    }

    /// <summary>What may be left out.</summary>
    public Term Optional(Term term) => Union(term, Epsilon);

    /// <summary>A part a number of times.</summary>
    public Term Repeat(Term term, int min, int max)
    {
        if (max == 0 || term.Kind == TermKind.Epsilon)
        {
            return Epsilon;
        }

        if (term.IsEmpty)
        {
            return min == 0 ? Epsilon : Empty;
        }

        if (min == 1 && max == 1)
        {
            return term;
        }

        if (term.Kind == TermKind.Repeat && term.Min <= 1 && term.Max == Term.Unlimited)
        {
            return Repeat(term.Items[0], term.Min == 0 ? 0 : min, Term.Unlimited); // (x*){m,n} is x*, (x+){m,n} is x{m,}
        }

        return Intern(TermKind.Repeat, default, [term], term.IsNullable ? 0 : min, max);
    }

    /// <summary>What all of several say; <see cref="Empty"/> where that is nothing.</summary>
    /// <exception cref="ConstraintException">It takes too much to find out.</exception>
    public Term Intersection(params IReadOnlyList<Term> parts)
    {
        HashSet<Term> items = [];
        Add(parts);
        if (items.Contains(Empty))
        {
            return Empty;
        }

        if (items.Contains(Epsilon))
        {
            return items.All(item => item.IsNullable) ? Epsilon : Empty;
        }

        if (items.Count == 0)
        {
            return Complement(Empty);
        }

        Term[] sets = [.. items.Where(item => item.Kind == TermKind.Bytes)];
        if (sets.Length > 1)
        {
            items.ExceptWith(sets);
            items.Add(Bytes(sets.Aggregate(ByteSet.All, (set, item) => set & item.Set)));
            return Intersection([.. items]);
        }

        return Searched(Parts(TermKind.Intersection, [.. items]));

        void Add(IReadOnlyList<Term> terms)
        {
            Spend(terms.Count);
            for (int i = 0; i < terms.Count; i++)
            {
                if (terms[i].Kind == TermKind.Intersection)
                {
                    Add(terms[i].Items);
                }
                else if (terms[i] is not { Kind: TermKind.Complement, Items: [{ IsEmpty: true }] })
                {
                    items.Add(terms[i]);
                }
            }
        }
    }

    /// <summary>All words but those of a term.</summary>
    public Term Complement(Term term) =>
        term.Kind == TermKind.Complement ? term.Items[0] : Searched(Intern(TermKind.Complement, default, [term]));

    /// <summary>Digits after which a number is a multiple.</summary>
    /// <param name="divisor">At least 1, small enough that ten times it is an int.</param>
    /// <param name="remainder">The remainder of the digits before.</param>
    public Term Multiple(int divisor, int remainder) => Intern(TermKind.Multiple, default, [], divisor, remainder);

    private Term Parts(TermKind kind, List<Term> items)
    {
        if (items.Count < 2)
        {
            return items.Count == 1 ? items[0] : Empty;
        }

        if (items.Count > MostParts)
        {
            throw new ConstraintException($"A regular expression is ambiguous in more than {MostParts} ways; write it so that fewer parts can match one text.");
        }

        items.Sort((x, y) => x.Id.CompareTo(y.Id));
        return Intern(kind, default, [.. items]);
    }

    private Term Intern(TermKind kind, ByteSet set, Term[] items, int min = 0, int max = 0)
    {
        Key key = new(kind, set, items, min, max);
        if ((shared is not null && shared._terms.TryGetValue(key, out Term? term)) || _terms.TryGetValue(key, out term))
        {
            return term;
        }

        if (_terms.Count >= MostTerms)
        {
            throw new ConstraintException(
                $"The constraint takes more than {MostTerms} states; make its texts and bounds smaller, or leave out what several keywords say of one text.");
        }

        term = new Term(kind, set, items, min, max);
        _terms.Add(key, term);
        return term;
    }

    /// <summary>Counts work.</summary>
    /// <param name="work">Parts that are looked at.</param>
    /// <exception cref="ConstraintException">It is more than is left.</exception>
    public void Spend(int work)
    {
        _work -= work;
        if (_work < 0)
        {
            throw new ConstraintException(
                "A regular expression or a schema is ambiguous in too many ways; write it so that fewer parts can match one text, or make its counters "
                + "smaller.");
        }
    }

    private readonly struct Key(TermKind kind, ByteSet set, Term[] items, int min, int max) : IEquatable<Key>
    {
        private readonly TermKind _kind = kind;
        private readonly ByteSet _set = set;
        private readonly Term[] _items = items;
        private readonly int _min = min;
        private readonly int _max = max;

        public bool Equals(Key other) => _kind == other._kind && _min == other._min && _max == other._max && _set == other._set
            && _items.AsSpan().SequenceEqual(other._items);

        public override bool Equals([NotNullWhen(true)] object? obj) => obj is Key other && Equals(other);

        public override int GetHashCode()
        {
            HashCode hash = new();
            hash.Add((int)_kind);
            hash.Add(_min);
            hash.Add(_max);
            hash.Add(_set);
            foreach (Term item in _items)
            {
                hash.Add(item.Id);
            }

            return hash.ToHashCode();
        }
    }
}
