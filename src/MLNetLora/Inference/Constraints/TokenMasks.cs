namespace MLNetLora.Inference.Constraints;

/// <summary>
/// Finds the tokens that may come in a state of a grammar. What stays in the state's term is found by one walk over the whole vocabulary, which serves
/// wherever the term stands (a string is a string in every property); only the tokens that go beyond its end depend on what comes behind it. For one thread
/// at a time, which holds the grammar's lock.
/// </summary>
/// <param name="grammar">The grammar.</param>
/// <param name="vocabulary">The tokens.</param>
internal sealed class TokenMasks(Grammar grammar, Vocabulary vocabulary)
{
    /// <summary>Nodes of a tree that are gone through in the time that one part of a term takes.</summary>
    private const int NodesPerPart = 16;

    private readonly HashSet<(TokenTrie, int, Grammar.Config)> _seen = [];
    private readonly ulong[] _bits = new ulong[vocabulary.Words];

    /// <summary>Adds the tokens that may come.</summary>
    /// <param name="state">The places where the answer may be.</param>
    /// <param name="bits">A bit for each token.</param>
    /// <exception cref="ConstraintException">It takes more than is left of the store's work.</exception>
    public void AddTo(Grammar.Config[] state, Span<ulong> bits)
    {
        grammar.Tidy();
        foreach (Grammar.Config config in state)
        {
            Mask(config).Tokens.AddTo(bits);
        }
    }

    private TermMask Mask(Grammar.Config config)
    {
        if (vocabulary.Find(config) is { } known)
        {
            return known;
        }

        (TermMask Short, TermMask Long) own = (Own(config.Term, 0), Own(config.Term, 1));
        Array.Clear(_bits);
        own.Short.Tokens.AddTo(_bits);
        own.Long.Tokens.AddTo(_bits);
        _seen.Clear();
        Grammar.Config[] after = grammar.After(config);
        foreach ((int trie, int[] exits) in ((int, int[])[])[(0, own.Short.Exits[0]), (1, own.Long.Exits[0])])
        {
            foreach (int exit in exits)
            {
                foreach (Grammar.Config next in after)
                {
                    Walk(vocabulary.Tries[trie], exit, next, _bits);
                }
            }
        }

        TermMask mask = new(new TokenSet(_bits), []);
        vocabulary.Keep(config, mask);
        return mask;
    }

    /// <summary>The tokens of one tree that stay in a term, and where it may be at its end with bytes of a token left.</summary>
    private TermMask Own(Term term, int trie)
    {
        TokenTrie tokens = vocabulary.Tries[trie];
        term = grammar.Store.Shorten(term, tokens.LongestToken);
        if (vocabulary.Find(term, trie) is { } known)
        {
            return known;
        }

        ulong[] bits = new ulong[vocabulary.Words];
        List<int> exits = [];
        Walk(tokens, 0, term, bits, exits);
        TermMask mask = new(new TokenSet(bits), [[.. exits]]);
        vocabulary.Keep(term, mask, trie);
        return mask;
    }

    /// <summary>Goes on within tokens from where another term was at its end.</summary>
    private void Walk(TokenTrie tokens, int node, Grammar.Config config, ulong[] bits)
    {
        if (!_seen.Add((tokens, node, config)))
        {
            return;
        }

        List<int> exits = config.Term.IsNullable ? [node] : [];
        Walk(tokens, node, config.Term, bits, exits);
        foreach (Grammar.Config next in exits.Count == 0 ? [] : grammar.After(config))
        {
            foreach (int exit in exits)
            {
                Walk(tokens, exit, next, bits);
            }
        }
    }

    /// <summary>Looks at the tokens below a node.</summary>
    private void Walk(TokenTrie tokens, int node, Term term, ulong[] bits, List<int> exits)
    {
        (byte[] labels, short[] depths, int[] ends, int[] first) = (tokens.Labels, tokens.Depths, tokens.Ends, tokens.FirstTokens);
        TermStore store = grammar.Store;
        int depth = depths[node];
        Term[] path = new Term[tokens.LongestToken - depth + 1];
        path[0] = term;
        int nodes = NodesPerPart - 1; // that a walk of few nodes counts, too
        for (int at = node + 1, end = ends[node]; at < end;)
        {
            nodes++;
            int above = depths[at] - depth - 1;
            Term next = store.Step(path[above], labels[at]);
            if (next.IsEmpty)
            {
                at = ends[at];
                continue;
            }

            path[above + 1] = next;
            for (int token = first[at]; token < first[at + 1]; token++)
            {
                int id = tokens.Tokens[token];
                bits[id >> 6] |= 1UL << (id & 63);
            }

            if (next.IsNullable && ends[at] > at + 1)
            {
                exits.Add(at);
            }

            at++;
        }

        store.Spend(nodes / NodesPerPart);
    }
}
