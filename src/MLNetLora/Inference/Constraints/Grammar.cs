namespace MLNetLora.Inference.Constraints;

/// <summary>
/// What an answer may be, independent of a tokenizer. Its states are made as answers reach them, and kept for the next answers: <see cref="Lock"/> must be held
/// for everything that takes a step.
/// </summary>
internal sealed class Grammar
{
    /// <summary>Levels that System.Text.Json, and many others, read.</summary>
    public const int DeepestNesting = 64;

    private const int MostStates = 60_000;
    private readonly Dictionary<(Term, Frame?), Config> _configs = [];
    private readonly Dictionary<(GrammarNode, int, Frame?), Frame> _frames = [];
    private readonly GrammarNode _root;
    private readonly GrammarNode.Terminal _afterThinking = new(JsonTerms.Thinking);
    private readonly GrammarNode.Terminal _mayThink = new(JsonTerms.WholeThinking);

    /// <summary>Takes a grammar.</summary>
    /// <param name="store">The store of its terms.</param>
    /// <param name="root">What an answer is.</param>
    /// <exception cref="ConstraintException">A rule comes back to itself, or nothing satisfies the grammar.</exception>
    public Grammar(TermStore store, GrammarNode root)
    {
        (Store, _root) = (store, root);
        _afterThinking.MinDepth = _mayThink.MinDepth = 0;
        GrammarChecks.RequireProgress(root);
        GrammarChecks.FindDepths(root);
        if (root.MinDepth > DeepestNesting)
        {
            string? pointer = GrammarChecks.FirstEndless(root)?.Pointer;
            throw root.MinDepth < GrammarNode.Endless
                ? new ConstraintException(
                    $"What is required nests {root.MinDepth} levels deep; at most {DeepestNesting} are written, which is what JSON readers take.")
                : pointer is null ? new ConstraintException("No text matches the constraint: what it asks for excludes itself.")
                : Schema.Refused(pointer, "is satisfied by no value: what is required excludes itself, or nests without end.", null);
        }
    }

    /// <summary>The terms.</summary>
    public TermStore Store { get; }

    /// <summary>Held by who takes steps.</summary>
    public Lock Lock { get; } = new();

    /// <summary>About how many states it has.</summary>
    public int Size => _configs.Count + _frames.Count + Store.Count;

    /// <summary>Where an answer begins.</summary>
    /// <param name="thinking">What of thinking comes before it.</param>
    public Config[] Start(ThinkingPart thinking)
    {
        Tidy();
        List<Config> start = [];
        if (thinking != ThinkingPart.Rest)
        {
            Expand(_root, 0, null, start);
        }

        if (thinking != ThinkingPart.None)
        {
            Expand(thinking == ThinkingPart.Rest ? _afterThinking : _mayThink, 0, Push(_root, 0, null), start);
        }

        return Saturate(start);
    }

    /// <summary>Forgets states where they have become too many; answers under way keep those they are in.</summary>
    public void Tidy()
    {
        if (Size > MostStates)
        {
            _configs.Clear();
            _frames.Clear();
            Store.Forget();
        }
    }

    /// <summary>Where a byte leads; empty where it may not come.</summary>
    public Config[] Step(Config[] from, byte value)
    {
        List<Config>? next = null;
        foreach (Config config in from)
        {
            Term term = Store.Step(config.Term, value);
            if (!term.IsEmpty)
            {
                (next ??= []).Add(Intern(term, config.Tail));
            }
        }

        return next is null ? [] : Saturate(next);
    }

    /// <summary>Where the grammar goes on when the term of a state is at its end; empty where the answer may end there.</summary>
    public Config[] After(Config config)
    {
        if (config.Tail is not { } tail)
        {
            return [];
        }

        if (tail.Configs is null)
        {
            List<Config> found = [];
            Expand(tail.Node, tail.Depth, tail.Tail, found);
            tail.Configs = [.. found.Distinct()];
        }

        return tail.Configs;
    }

    /// <summary>Adds what may come where terms are at their end, and leaves away what is at its end and no more.</summary>
    private Config[] Saturate(List<Config> configs)
    {
        if (configs.Count == 1 && !configs[0].Term.IsNullable)
        {
            return [.. configs];
        }

        HashSet<Config> seen = [.. configs];
        configs = [.. seen];
        for (int i = 0; i < configs.Count; i++)
        {
            if (configs[i].Term.IsNullable)
            {
                configs.AddRange(After(configs[i]).Where(seen.Add));
            }
        }

        configs.RemoveAll(config => config.Term.Kind == TermKind.Epsilon && config.Tail is not null);
        return [.. configs];
    }

    private void Expand(GrammarNode node, int depth, Frame? tail, List<Config> found)
    {
        while (depth + node.MinDepth <= DeepestNesting)
        {
            switch (node)
            {
                case GrammarNode.Terminal terminal:
                    found.Add(Intern(terminal.Term, tail));
                    return;
                case GrammarNode.Sequence sequence:
                    tail = Push(sequence.Rest, depth, tail);
                    node = sequence.First;
                    break;
                case GrammarNode.Choice choice:
                    for (int i = 0; i < choice.Items.Count - 1; i++)
                    {
                        Expand(choice.Items[i], depth, tail, found);
                    }

                    node = choice.Items[^1];
                    break;
                case GrammarNode.Repeat repeat:
                    if (repeat.Min == 0)
                    {
                        found.Add(Intern(TermStore.Epsilon, tail));
                    }

                    if (repeat.Max == 0 || depth + repeat.Item.MinDepth > DeepestNesting)
                    {
                        return;
                    }

                    tail = Push(repeat.Next, depth, tail);
                    node = repeat.Item;
                    break;
                case GrammarNode.Nested nested:
                    depth++;
                    node = nested.Inner;
                    break;
                case GrammarNode.Rule rule:
                    node = rule.Body;
                    break;
            }
        }
    }

    private Frame Push(GrammarNode node, int depth, Frame? tail)
    {
        if (!_frames.TryGetValue((node, depth, tail), out Frame? frame))
        {
            frame = new Frame(node, depth, tail);
            _frames.Add((node, depth, tail), frame);
        }

        return frame;
    }

    private Config Intern(Term term, Frame? tail)
    {
        if (!_configs.TryGetValue((term, tail), out Config? config))
        {
            config = new Config(term, tail);
            _configs.Add((term, tail), config);
        }

        return config;
    }

    /// <summary>One of the places where an answer may be: in a term, and what comes when that is at its end.</summary>
    internal sealed class Config(Term term, Frame? tail)
    {
        public Term Term => term;

        /// <summary>Null where the answer then ends.</summary>
        public Frame? Tail => tail;
    }

    /// <summary>An entry of the stack.</summary>
    internal sealed class Frame(GrammarNode node, int depth, Frame? tail)
    {
        /// <summary>What comes.</summary>
        public GrammarNode Node => node;

        /// <summary>How many objects and arrays are open there.</summary>
        public int Depth => depth;

        /// <summary>What comes behind it.</summary>
        public Frame? Tail => tail;

        /// <summary>Where it begins; null where nobody has asked.</summary>
        public Config[]? Configs { get; set; }
    }
}

/// <summary>What of a model's thinking comes before its answer.</summary>
internal enum ThinkingPart
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>The model may open it.</summary>
    Optional,

    /// <summary>The prompt has opened it.</summary>
    Rest,
}
