namespace MLNetLora.Inference.Constraints;

/// <summary>The grammars that were made last, by what they were made of, so that requests with one schema share states and masks. Thread-safe.</summary>
internal static class GrammarCache
{
    private const int MostGrammars = 64;
    private const long MostCharacters = 4 << 20;
    private const long MostStates = 400_000;

    /// <summary>Parts of terms that may be looked at to make a grammar: about a second.</summary>
    private const long WorkPerGrammar = 4_000_000;

    private static readonly Lock s_lock = new();
    private static readonly Dictionary<(string Kind, string Text), LinkedListNode<((string Kind, string Text) Key, Grammar Grammar)>> s_grammars = [];
    private static readonly LinkedList<((string Kind, string Text) Key, Grammar Grammar)> s_recent = [];
    private static long s_characters;

    /// <summary>A grammar.</summary>
    /// <param name="kind">What the text is.</param>
    /// <param name="text">What it is made of.</param>
    /// <param name="build">Makes it.</param>
    public static Grammar Get(string kind, string text, Func<TermStore, GrammarNode> build)
    {
        (string, string) key = (kind, text);
        lock (s_lock)
        {
            if (s_grammars.TryGetValue(key, out LinkedListNode<((string, string) Key, Grammar Grammar)>? known))
            {
                s_recent.Remove(known);
                s_recent.AddFirst(known);
                return known.Value.Grammar;
            }
        }

        Grammar grammar = New(build);
        lock (s_lock)
        {
            if (s_grammars.TryGetValue(key, out LinkedListNode<((string, string) Key, Grammar Grammar)>? other))
            {
                return other.Value.Grammar;
            }

            s_grammars.Add(key, s_recent.AddFirst((key, grammar)));
            s_characters += text.Length;
            // States come while a grammar is used, so that they are counted anew; those who have a grammar keep it.
            while ((s_grammars.Count > MostGrammars || s_characters > MostCharacters || s_recent.Sum(entry => (long)entry.Grammar.Size) > MostStates)
                && s_recent.Last is { } last)
            {
                s_recent.RemoveLast();
                s_grammars.Remove(last.Value.Key);
                s_characters -= last.Value.Key.Text.Length;
            }

            return grammar;
        }
    }

    /// <summary>A grammar that nobody else has.</summary>
    public static Grammar New(Func<TermStore, GrammarNode> build)
    {
        TermStore store = new(JsonTerms.Store) { WorkLeft = WorkPerGrammar };
        return new Grammar(store, build(store));
    }
}
