namespace MLNetLora.Tools.NanoQwen.Tokenization;

/// <summary>The words of the training text as symbols, with the count of every neighbouring pair kept up to date while pairs are merged.</summary>
internal sealed class PairCounts
{
    private readonly List<int>[] _words;
    private readonly long[] _wordCounts;
    private readonly Dictionary<(int Left, int Right), long> _counts = [];
    private readonly Dictionary<(int Left, int Right), HashSet<int>> _occurrences = [];

    // Every change of a count enters the queue anew; an entry whose count is no longer the current one is stale and dropped when it comes up.
    private readonly PriorityQueue<(int Left, int Right), (long NegativeCount, int Left, int Right)> _queue = new();

    public PairCounts(IReadOnlyList<(int[] Symbols, long Count)> words)
    {
        _words = [.. words.Select(word => word.Symbols.ToList())];
        _wordCounts = [.. words.Select(word => word.Count)];
        HashSet<(int, int)> changed = [];
        for (int word = 0; word < _words.Length; word++)
        {
            for (int i = 0; i + 1 < _words[word].Count; i++)
            {
                Change((_words[word][i], _words[word][i + 1]), word, _wordCounts[word], changed);
            }
        }

        Enqueue(changed);
    }

    /// <summary>Takes the most frequent pair out of the queue; null when none occurs at least twice.</summary>
    public (int Left, int Right)? TakeMostFrequent()
    {
        while (_queue.TryDequeue(out (int Left, int Right) pair, out (long NegativeCount, int, int) priority))
        {
            long count = -priority.NegativeCount;
            if (count != _counts.GetValueOrDefault(pair))
            {
                continue;
            }

            return count >= 2 ? pair : null;
        }
        return null;
    }

    /// <summary>Replaces every occurrence of the pair, from left to right in each word, by the new symbol.</summary>
    public void Merge((int Left, int Right) pair, int merged)
    {
        HashSet<(int, int)> changed = [];
        foreach (int word in _occurrences[pair].ToArray())
        {
            List<int> symbols = _words[word];
            long count = _wordCounts[word];
            for (int i = 0; i + 1 < symbols.Count; i++)
            {
                if (symbols[i] != pair.Left || symbols[i + 1] != pair.Right)
                {
                    continue;
                }

                if (i > 0)
                {
                    Change((symbols[i - 1], pair.Left), word, -count, changed);
                    Change((symbols[i - 1], merged), word, count, changed);
                }
                if (i + 2 < symbols.Count)
                {
                    Change((pair.Right, symbols[i + 2]), word, -count, changed);
                    Change((merged, symbols[i + 2]), word, count, changed);
                }
                symbols[i] = merged;
                symbols.RemoveAt(i + 1);
            }
        }
        _counts.Remove(pair);
        _occurrences.Remove(pair);
        changed.Remove(pair);
        Enqueue(changed);
    }

    private void Change((int Left, int Right) pair, int word, long difference, HashSet<(int, int)> changed)
    {
        _counts[pair] = _counts.GetValueOrDefault(pair) + difference;
        if (difference > 0)
        {
            if (!_occurrences.TryGetValue(pair, out HashSet<int>? words))
            {
                _occurrences[pair] = words = [];
            }

            words.Add(word);
        }
        changed.Add(pair);
    }

    private void Enqueue(HashSet<(int Left, int Right)> changed)
    {
        foreach ((int Left, int Right) pair in changed)
        {
            if (_counts.GetValueOrDefault(pair) is > 1 and long count)
            {
                _queue.Enqueue(pair, (-count, pair.Left, pair.Right));
            }
        }
    }
}
