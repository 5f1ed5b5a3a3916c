namespace MLNetLora.Inference.Constraints;

/// <summary>Takes ^ and $ out of a regular expression: where they stand at the ends of an alternative they say whether more text may be there.</summary>
/// <param name="pattern">The expression.</param>
/// <param name="refused">Makes the error of what is wrong with it.</param>
internal sealed class Anchors(Pattern pattern, Func<string, ConstraintException> refused)
{
    private const int MostAlternatives = 1000;

    /// <summary>The whole text matches.</summary>
    public Pattern Whole() => Without(Alternatives(pattern), any: false);

    /// <summary>Somewhere in the text there is a match.</summary>
    public Pattern Search() => Without(Alternatives(pattern), any: true);

    /// <summary>An expression as alternatives whose first and last parts are no groups with anchors in them.</summary>
    private List<List<Pattern>> Alternatives(Pattern part)
    {
        List<List<Pattern>> found = part switch
        {
            Pattern.Choice choice when Holds(part) => [.. choice.Parts.SelectMany(Alternatives)],
            Pattern.Sequence { Parts: [_, ..] } sequence when Holds(part) => Combine(sequence.Parts),
            _ => [[part]],
        };
        return found.Count <= MostAlternatives ? found : throw refused($"has anchors in more than {MostAlternatives} alternatives");
    }

    private List<List<Pattern>> Combine(IReadOnlyList<Pattern> parts)
    {
        List<List<Pattern>> found = [[]];
        foreach (Pattern part in parts)
        {
            List<List<Pattern>> next = Alternatives(part);
            if (next.Count == 1)
            {
                found.ForEach(before => before.AddRange(next[0])); // not copied for every character of a long text
                continue;
            }

            found = [.. found.SelectMany(before => next.Select(after => (List<Pattern>)[.. before, .. after]))];
            if (found.Count > MostAlternatives)
            {
                throw refused($"has anchors in more than {MostAlternatives} alternatives");
            }
        }

        return found;
    }

    private Pattern Without(List<List<Pattern>> alternatives, bool any)
    {
        List<Pattern> parts = [];
        foreach (List<Pattern> alternative in alternatives)
        {
            int first = alternative.TakeWhile(part => part is Pattern.Anchor { IsEnd: false }).Count();
            int last = alternative.Count - alternative.Skip(first).Reverse().TakeWhile(part => part is Pattern.Anchor { IsEnd: true }).Count();
            List<Pattern> inner = alternative[first..last];
            if (inner.Exists(Holds))
            {
                throw refused("has ^ or $ within, where they cannot be held to; they may stand at its beginning and end");
            }

            if (any && first == 0)
            {
                inner.Insert(0, Pattern.AnyText);
            }

            if (any && last == alternative.Count)
            {
                inner.Add(Pattern.AnyText);
            }

            parts.Add(inner.Count == 1 ? inner[0] : new Pattern.Sequence(inner));
        }

        return parts.Count == 1 ? parts[0] : new Pattern.Choice(parts);
    }

    private static bool Holds(Pattern part) => part switch
    {
        Pattern.Anchor => true,
        Pattern.Sequence sequence => sequence.Parts.Any(Holds),
        Pattern.Choice choice => choice.Parts.Any(Holds),
        Pattern.Repeat repeat => Holds(repeat.Part),
        _ => false,
    };
}
