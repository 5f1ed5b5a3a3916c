namespace MLNetLora.Evaluation;

/// <summary>
/// ROUGE (Lin 2004, aclanthology.org/W04-1013) as Google's rouge_score 0.1.2 computes it for one reference: how many words, or pairs of words, an answer
/// shares with it. From 0 to 1.
/// </summary>
public static class Rouge
{
    /// <summary>ROUGE-L: the longest common subsequence, words in the same order with anything between them.</summary>
    /// <param name="answer">What was answered.</param>
    /// <param name="reference">What should have been.</param>
    /// <param name="tokenizer">What a word is.</param>
    /// <returns>All 0 where one of them has no words.</returns>
    public static RougeScore L(string answer, string reference, RougeTokenizer tokenizer = RougeTokenizer.Unicode)
    {
        (int[] a, int[] b) = Words(answer, reference, tokenizer);
        return L(a, b);
    }

    /// <summary>ROUGE-N: the runs of n words that both have, each as often as both have it.</summary>
    /// <param name="answer">What was answered.</param>
    /// <param name="reference">What should have been.</param>
    /// <param name="n">How many words, from 1 to 9.</param>
    /// <param name="tokenizer">What a word is.</param>
    /// <returns>All 0 where one of them has less than n words.</returns>
    public static RougeScore N(string answer, string reference, int n, RougeTokenizer tokenizer = RougeTokenizer.Unicode)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(n, 9);
        (int[] a, int[] b) = Words(answer, reference, tokenizer);
        return Of(NGramMatches.Count(a, b, n)[n - 1]);
    }

    /// <summary>ROUGE-1, ROUGE-2 and ROUGE-L of one pair.</summary>
    internal static (RougeScore One, RougeScore Two, RougeScore L) All(string answer, string reference, RougeTokenizer tokenizer)
    {
        (int[] a, int[] b) = Words(answer, reference, tokenizer);
        NGramMatches[] matches = NGramMatches.Count(a, b, 2);
        return (Of(matches[0]), Of(matches[1]), L(a, b));
    }

    private static RougeScore L(ReadOnlySpan<int> answer, ReadOnlySpan<int> reference) =>
        Of(new NGramMatches(answer.Length, reference.Length, CommonSubsequence(answer, reference)));

    private static RougeScore Of(NGramMatches matches) => new(matches.Precision, matches.Recall);

    private static (int[] Answer, int[] Reference) Words(string answer, string reference, RougeTokenizer tokenizer)
    {
        ArgumentNullException.ThrowIfNull(answer);
        ArgumentNullException.ThrowIfNull(reference);
        return TextSymbols.Number(RougeWords.Of(answer, tokenizer), RougeWords.Of(reference, tokenizer));
    }

    /// <summary>Length of the longest common subsequence, with one row of the table in memory.</summary>
    private static int CommonSubsequence(ReadOnlySpan<int> a, ReadOnlySpan<int> b)
    {
        int head = a.CommonPrefixLength(b);
        a = a[head..];
        b = b[head..];
        int tail = 0;
        while (tail < Math.Min(a.Length, b.Length) && a[^(tail + 1)] == b[^(tail + 1)])
        {
            tail++;
        }

        a = a[..^tail];
        b = b[..^tail];
        int[] row = new int[b.Length + 1]; // row[j]: of what was seen of a, and the first j of b
        foreach (int symbol in a)
        {
            int diagonal = 0;
            for (int j = 0; j < b.Length; j++)
            {
                int above = row[j + 1];
                row[j + 1] = b[j] == symbol ? diagonal + 1 : Math.Max(above, row[j]);
                diagonal = above;
            }
        }

        return head + row[^1] + tail;
    }
}

/// <summary>What two texts have in common.</summary>
/// <param name="Precision">Share of the answer that the reference has too, from 0 to 1.</param>
/// <param name="Recall">Share of the reference that the answer has too, from 0 to 1.</param>
public readonly record struct RougeScore(double Precision, double Recall)
{
    /// <summary>Harmonic mean of both, 2PR / (P + R); 0 where both are.</summary>
    public double FMeasure => Precision + Recall > 0 ? 2 * Precision * Recall / (Precision + Recall) : 0;
}
