using System.Runtime.CompilerServices;

namespace MLNetLora.Inference.Constraints;

/// <summary>What may follow in a word.</summary>
internal sealed partial class TermStore
{
    private readonly Dictionary<(byte[], byte[]), byte[]> _meets = [];

    /// <summary>What may follow after a byte; <see cref="Empty"/> where the byte may not come.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Term Step(Term term, byte value)
    {
        byte[] classes = term.Classes ?? Classify(term);
        int at = classes[value];
        return term.Targets![at] ?? Derive(term, value, at);
    }

    /// <summary>Whether anything may follow.</summary>
    public bool GoesOn(Term term)
    {
        for (int value = 0; value < 256; value++)
        {
            if (!Step(term, (byte)value).IsEmpty)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>A term that has the same words of up to so many bytes, and the same beginnings of words, and smaller counters: far from the end of a long
    /// string all its states are one.</summary>
    public Term Shorten(Term term, int bytes)
    {
        if (term.LargestCounter <= bytes)
        {
            return term;
        }

        int limit = bytes + 1;
        return term.Kind switch
        {
            TermKind.Sequence => Sequence(Shorten(term.Items[0], bytes), Shorten(term.Items[1], bytes)),
            TermKind.Union => Union(Array.ConvertAll(term.Items, item => Shorten(item, bytes))),
            TermKind.Repeat =>
                Repeat(Shorten(term.Items[0], bytes), Math.Min(term.Min, limit), term.Max >= limit ? Term.Unlimited : term.Max),
            _ => term,
        };
    }

    /// <summary>Derives all that the terms lead to, so that nothing changes any more and several threads may use them.</summary>
    public void Close()
    {
        HashSet<Term> closed = [];
        while (_terms.Values.FirstOrDefault(term => !closed.Contains(term)) is not null)
        {
            foreach (Term term in _terms.Values.Where(closed.Add).ToArray())
            {
                for (int value = 0; value < 256; value++)
                {
                    _ = Step(term, (byte)value);
                }
            }
        }
    }

    /// <summary>Forgets all derivatives, which then are made anew where they are needed.</summary>
    public void Forget()
    {
        foreach (Term term in _terms.Values)
        {
            // Those that were searched lead nowhere but to terms that were searched, and must go on to do so.
            if (!term.IsSearched)
            {
                (term.Classes, term.Targets) = (null, null);
            }
        }

        _terms.Clear();
        _meets.Clear();
    }

    private byte[] Classify(Term term)
    {
        byte[] classes = Partition.Of(term, part => part.Classes ?? Classify(part), Meet);
        term.Targets = new Term?[Partition.Count(classes)];
        return term.Classes = classes;
    }

    /// <summary>Many terms part the bytes alike: what was found for two parts is found again.</summary>
    private byte[] Meet(byte[] x, byte[] y)
    {
        if (!_meets.TryGetValue((x, y), out byte[]? both))
        {
            both = Partition.Meet(x, y);
            _meets.Add((x, y), both);
        }

        return both;
    }

    private Term Derive(Term term, byte value, int at)
    {
        Term next = Derivative(term, value);
        term.Targets![at] = next;
        return next;
    }

    private Term Derivative(Term term, byte value)
    {
        Spend(1 + term.Items.Length);
        switch (term.Kind)
        {
            case TermKind.Bytes: return term.Set.Contains(value) ? Epsilon : Empty;
            case TermKind.Sequence:
                Term first = Sequence(Step(term.Items[0], value), term.Items[1]);
                return term.Items[0].IsNullable ? Union(first, Step(term.Items[1], value)) : first;
            case TermKind.Union: return Union(Array.ConvertAll(term.Items, item => Step(item, value)));
            case TermKind.Repeat:
                Term rest = Repeat(term.Items[0], Math.Max(0, term.Min - 1), term.Max == Term.Unlimited ? Term.Unlimited : term.Max - 1);
                return Sequence(Step(term.Items[0], value), rest);
            case TermKind.Intersection: return Intersection(Array.ConvertAll(term.Items, item => Step(item, value)));
            case TermKind.Complement: return Complement(Step(term.Items[0], value));
            case TermKind.Multiple:
                return value is >= (byte)'0' and <= (byte)'9' ? Multiple(term.Min, ((term.Max * 10) + value - '0') % term.Min) : Empty;
            default: return Empty;
        }
    }
}
