namespace MLNetLora.Inference.Constraints;

/// <summary>What must be so before a grammar is used.</summary>
internal static class GrammarChecks
{
    /// <summary>Throws where a rule comes back to itself without a byte between: no answer would ever go on.</summary>
    /// <exception cref="ConstraintException">One does.</exception>
    public static void RequireProgress(GrammarNode root)
    {
        Dictionary<GrammarNode, bool> isDone = [];
        foreach (GrammarNode start in Nodes(root))
        {
            Stack<(GrammarNode Node, bool IsLeft)> path = new([(start, false)]);
            while (path.TryPop(out (GrammarNode Node, bool IsLeft) at))
            {
                if (at.IsLeft)
                {
                    isDone[at.Node] = true;
                }
                else if (!isDone.TryGetValue(at.Node, out bool done))
                {
                    isDone[at.Node] = false;
                    path.Push((at.Node, true));
                    foreach (GrammarNode first in First(at.Node))
                    {
                        path.Push((first, false));
                    }
                }
                else if (!done)
                {
                    throw new ConstraintException("A $ref leads back to itself without an object or an array between, so that it says nothing; remove it.");
                }
            }
        }
    }

    /// <summary>Finds the least depth of every part, up to the least fixed point.</summary>
    public static void FindDepths(GrammarNode root)
    {
        Dictionary<GrammarNode, List<GrammarNode>> users = [];
        Queue<GrammarNode> queue = new();
        foreach (GrammarNode node in Nodes(root))
        {
            queue.Enqueue(node);
            foreach (GrammarNode part in Parts(node))
            {
                if (!users.TryGetValue(part, out List<GrammarNode>? list))
                {
                    users[part] = list = [];
                }

                list.Add(node);
            }
        }

        HashSet<GrammarNode> isQueued = [.. queue];
        while (queue.TryDequeue(out GrammarNode? node))
        {
            isQueued.Remove(node);
            int depth = Math.Min(GrammarNode.Endless, node switch
            {
                GrammarNode.Terminal terminal => terminal.Term.IsEmpty ? GrammarNode.Endless : 0,
                GrammarNode.Sequence sequence => Math.Max(sequence.First.MinDepth, sequence.Rest.MinDepth),
                GrammarNode.Choice choice => choice.Items.Select(item => item.MinDepth).DefaultIfEmpty(GrammarNode.Endless).Min(),
                GrammarNode.Repeat repeat => repeat.Min == 0 ? 0 : repeat.Item.MinDepth,
                GrammarNode.Nested nested => nested.Inner.MinDepth + 1,
                GrammarNode.Rule rule => rule.Body.MinDepth,
                _ => throw new InvalidOperationException("A kind of part is not known."),
            });
            if (depth < node.MinDepth)
            {
                node.MinDepth = depth;
                users.GetValueOrDefault(node)?.Where(isQueued.Add).ToList().ForEach(queue.Enqueue); // a choice of many waits for all of them
            }
        }
    }

    /// <summary>A rule that no text satisfies, as far inside as there is one; null where there is none.</summary>
    public static GrammarNode.Rule? FirstEndless(GrammarNode root) =>
        Nodes(root).OfType<GrammarNode.Rule>().LastOrDefault(rule => rule.MinDepth >= GrammarNode.Endless);

    private static List<GrammarNode> Nodes(GrammarNode root)
    {
        HashSet<GrammarNode> seen = [root];
        List<GrammarNode> nodes = [root];
        for (int i = 0; i < nodes.Count; i++)
        {
            nodes.AddRange(Parts(nodes[i]).Where(seen.Add));
        }

        return nodes;
    }

    private static IEnumerable<GrammarNode> Parts(GrammarNode node) => node switch
    {
        GrammarNode.Sequence sequence => [sequence.First, sequence.Rest],
        GrammarNode.Choice choice => choice.Items,
        GrammarNode.Repeat repeat => [repeat.Item],
        GrammarNode.Nested nested => [nested.Inner],
        GrammarNode.Rule rule => [rule.Body],
        _ => [],
    };

    private static IEnumerable<GrammarNode> First(GrammarNode node) => node is GrammarNode.Sequence sequence
        ? sequence.First is GrammarNode.Terminal { Term.IsNullable: true } or GrammarNode.Repeat { Min: 0 } ? [sequence.First, sequence.Rest] : [sequence.First]
        : Parts(node);
}
