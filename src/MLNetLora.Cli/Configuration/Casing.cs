using System.Text;

namespace MLNetLora.Cli.Configuration;

/// <summary>One name in the ways that people write it: LearningRate, learning_rate, learning-rate.</summary>
internal static class Casing
{
    public static string Snake(string pascal) => Separated(pascal, '_');

    public static string Kebab(string pascal) => Separated(pascal, '-');

    /// <summary>What all ways of writing have in common: lower case without hyphens and underscores.</summary>
    public static string Bare(string name)
    {
        StringBuilder bare = new(name.Length);
        foreach (char letter in name)
        {
            if (letter is not ('_' or '-'))
            {
                bare.Append(char.ToLowerInvariant(letter));
            }
        }

        return bare.ToString();
    }

    /// <summary>How many letters must be changed, added or left out to make one word of the other (Levenshtein).</summary>
    public static int Distance(string from, string to)
    {
        from = from.Length <= 64 ? from : from[..64];
        int[] row = [.. Enumerable.Range(0, to.Length + 1)];
        foreach ((int i, char letter) in from.Index())
        {
            int diagonal = row[0];
            row[0] = i + 1;
            for (int j = 0; j < to.Length; j++)
            {
                int changed = diagonal + (letter == to[j] ? 0 : 1);
                diagonal = row[j + 1];
                row[j + 1] = Math.Min(changed, Math.Min(row[j], diagonal) + 1);
            }
        }

        return row[^1];
    }

    /// <summary>The nearest of some names.</summary>
    public static string Nearest(string name, IEnumerable<string> known) =>
        known.MinBy(other => (Distance(name.ToLowerInvariant(), other.ToLowerInvariant()), other.Length))!;

    // LoRA is one word in names such as UseRsLora; digits belong to the word before them.
    private static string Separated(string pascal, char separator)
    {
        StringBuilder separated = new(pascal.Length + 8);
        foreach ((int i, char letter) in pascal.Index())
        {
            if (i > 0 && char.IsUpper(letter) && !char.IsUpper(pascal[i - 1]))
            {
                separated.Append(separator);
            }

            separated.Append(char.ToLowerInvariant(letter));
        }

        return separated.ToString();
    }
}
