namespace MLNetLora.Inference.Constraints;

/// <summary>Bounds on the length of what an expression matches, where they can be written into its one counter: an intersection would take as many states as
/// both have, multiplied.</summary>
internal static class PatternLength
{
    /// <summary>The expression with bounds; null where it does not have that form.</summary>
    /// <param name="pattern">The expression.</param>
    /// <param name="min">Fewest characters.</param>
    /// <param name="max">Most characters.</param>
    public static Pattern? Bound(Pattern pattern, int min, int max)
    {
        IReadOnlyList<Pattern> parts = pattern is Pattern.Sequence sequence ? sequence.Parts : [pattern];
        long known = 0;
        int counter = -1;
        for (int i = 0; i < parts.Count; i++)
        {
            if (Fixed(parts[i]) is { } length)
            {
                known += length;
            }
            else if (counter < 0 && parts[i] is Pattern.Repeat { Part: Pattern.Set })
            {
                counter = i;
            }
            else
            {
                return null;
            }
        }

        if (counter < 0 || known > max)
        {
            return null;
        }

        Pattern.Repeat repeat = (Pattern.Repeat)parts[counter];
        int fewest = (int)Math.Max(repeat.Min, min - known);
        int most = max == Term.Unlimited ? repeat.Max : (int)Math.Min(repeat.Max, max - known);
        return fewest > most ? null : new Pattern.Sequence([.. parts.Take(counter), repeat with { Min = fewest, Max = most }, .. parts.Skip(counter + 1)]);
    }

    /// <summary>How many characters an expression matches; null where that varies.</summary>
    private static long? Fixed(Pattern pattern)
    {
        switch (pattern)
        {
            case Pattern.Set: return 1;
            case Pattern.Sequence sequence: return sequence.Parts.Aggregate((long?)0, (sum, part) => sum + Fixed(part));
            case Pattern.Repeat repeat: return repeat.Min == repeat.Max ? repeat.Min * Fixed(repeat.Part) : null;
            case Pattern.Choice choice:
                long? first = Fixed(choice.Parts[0]);
                return choice.Parts.All(part => Fixed(part) == first) ? first : null;
            default: return null;
        }
    }
}
