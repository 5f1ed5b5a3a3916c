using System.Globalization;
using System.Text;

namespace MLNetLora.Inference.Constraints;

/// <summary>A set of Unicode characters (scalar values: surrogates are none), as ranges in order that do not touch.</summary>
internal sealed class CharacterSet
{
    private const int Last = 0x10FFFF;

    private static readonly Lazy<UnicodeCategory[]> s_categories = new(() =>
    {
        UnicodeCategory[] categories = new UnicodeCategory[Last + 1];
        for (int c = 0; c <= Last; c++)
        {
            categories[c] = CharUnicodeInfo.GetUnicodeCategory(c);
        }

        return categories;
    });

    private CharacterSet(IEnumerable<(int First, int Last)> ranges)
    {
        List<(int First, int Last)> merged = [];
        foreach ((int first, int last) in ranges.Where(range => range.First <= range.Last).OrderBy(range => range.First))
        {
            if (merged.Count > 0 && first <= merged[^1].Last + 1)
            {
                merged[^1] = (merged[^1].First, Math.Max(merged[^1].Last, last));
            }
            else
            {
                merged.Add((first, last));
            }
        }

        Ranges = merged;
    }

    /// <summary>No character.</summary>
    public static CharacterSet None { get; } = new([]);

    /// <summary>All characters.</summary>
    public static CharacterSet All { get; } = new([(0, 0xD7FF), (0xE000, Last)]);

    /// <summary>First and last character of each range.</summary>
    public IReadOnlyList<(int First, int Last)> Ranges { get; }

    /// <summary>Whether it has none.</summary>
    public bool IsEmpty => Ranges.Count == 0;

    /// <summary>Characters from one to another, both included.</summary>
    public static CharacterSet Range(int first, int last) => new CharacterSet([(first, last)]).And(All);

    /// <summary>The characters of a text.</summary>
    public static CharacterSet Of(string characters) => new(characters.EnumerateRunes().Select(rune => (rune.Value, rune.Value)));

    /// <summary>The characters of Unicode's general categories.</summary>
    public static CharacterSet Of(params UnicodeCategory[] categories)
    {
        UnicodeCategory[] all = s_categories.Value;
        List<(int, int)> ranges = [];
        for (int c = 0; c <= Last; c++)
        {
            int first = c;
            while (c <= Last && Array.IndexOf(categories, all[c]) >= 0)
            {
                c++;
            }

            if (c > first)
            {
                ranges.Add((first, c - 1));
            }
        }

        return new CharacterSet(ranges).And(All);
    }

    /// <summary>What is in any of several.</summary>
    public static CharacterSet AnyOf(IEnumerable<CharacterSet> sets) => new(sets.SelectMany(set => set.Ranges));

    /// <summary>What is in either.</summary>
    public CharacterSet Or(CharacterSet other) => new(Ranges.Concat(other.Ranges));

    /// <summary>What is in both.</summary>
    public CharacterSet And(CharacterSet other)
    {
        List<(int, int)> ranges = [];
        for ((int i, int j) = (0, 0); i < Ranges.Count && j < other.Ranges.Count;)
        {
            ((int firstX, int lastX), (int firstY, int lastY)) = (Ranges[i], other.Ranges[j]);
            ranges.Add((Math.Max(firstX, firstY), Math.Min(lastX, lastY)));
            (i, j) = lastX < lastY ? (i + 1, j) : (i, j + 1);
        }

        return new CharacterSet(ranges);
    }

    /// <summary>All characters but these.</summary>
    public CharacterSet Not()
    {
        List<(int, int)> ranges = [];
        int next = 0;
        foreach ((int first, int last) in Ranges)
        {
            ranges.Add((next, first - 1));
            next = last + 1;
        }

        ranges.Add((next, Last));
        return new CharacterSet(new CharacterSet(ranges).And(All).Ranges);
    }

    /// <summary>One of the characters in UTF-8.</summary>
    public Term Utf8(TermStore store)
    {
        List<Term> parts = [];
        foreach ((int first, int last) in Ranges)
        {
            // By the lengths of UTF-8.
            foreach ((int from, int to) in ((int, int)[])[(0, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, Last)])
            {
                (int low, int high) = (Math.Max(first, from), Math.Min(last, to));
                if (low <= high)
                {
                    Span<byte> lowest = new byte[4];
                    Span<byte> highest = new byte[4];
                    int length = new Rune(low).EncodeToUtf8(lowest);
                    new Rune(high).EncodeToUtf8(highest);
                    parts.Add(store.Between(lowest[..length], highest[..length], 0x80, 0xBF));
                }
            }
        }

        return store.Union(parts);
    }
}
