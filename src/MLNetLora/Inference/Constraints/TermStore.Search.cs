namespace MLNetLora.Inference.Constraints;

/// <summary>Whether intersections and complements have words, which their form does not show.</summary>
internal sealed partial class TermStore
{
    /// <summary>Most states that are looked through for one intersection.</summary>
    private const int MostSearchedStates = 20_000;

    private bool _isSearching;

    /// <summary>Looks whether a term has words, and takes away what leads to none; so that no answer gets to a place from where it cannot end.</summary>
    private Term Searched(Term term)
    {
        if (!term.NeedsSearch || term.IsSearched || _isSearching)
        {
            return term.IsDead ? Empty : term;
        }

        _isSearching = true;
        try
        {
            return Search(term) ? term : Empty;
        }
        finally
        {
            _isSearching = false;
        }
    }

    private bool Search(Term start)
    {
        Dictionary<Term, List<Term>> cameFrom = new() { [start] = [] };
        List<Term> order = [start];
        Queue<Term> living = new();
        HashSet<Term> alive = [];
        for (int i = 0; i < order.Count; i++)
        {
            Term term = order[i];
            bool lives = term.IsNullable;
            _ = term.Classes ?? Classify(term);
            for (int at = 0; at < term.Targets!.Length; at++)
            {
                Term next = term.Targets[at] ?? Derive(term, (byte)Array.IndexOf(term.Classes!, (byte)at), at);
                if (!next.NeedsSearch || next.IsSearched)
                {
                    lives |= !next.IsEmpty;
                }
                else if (cameFrom.TryGetValue(next, out List<Term>? before))
                {
                    before.Add(term);
                }
                else
                {
                    cameFrom.Add(next, [term]);
                    order.Add(next);
                    if (order.Count > MostSearchedStates)
                    {
                        throw new ConstraintException(
                            $"What several keywords say of one text together takes more than {MostSearchedStates} states; leave one out, or make bounds "
                            + "smaller.");
                    }
                }
            }

            if (lives && alive.Add(term))
            {
                living.Enqueue(term);
            }
        }

        while (living.TryDequeue(out Term? term))
        {
            foreach (Term before in cameFrom[term].Where(alive.Add))
            {
                living.Enqueue(before);
            }
        }

        foreach (Term term in order)
        {
            term.IsSearched = true;
            for (int at = 0; at < term.Targets!.Length; at++)
            {
                if (cameFrom.ContainsKey(term.Targets[at]!) && !alive.Contains(term.Targets[at]!))
                {
                    term.Targets[at] = Empty;
                }
            }

            if (!alive.Contains(term))
            {
                Array.Fill(term.Targets, Empty);
                term.IsDead = true;
            }
        }

        return alive.Contains(start);
    }
}
