using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace MLNetLora.Evaluation;

/// <summary>The n-grams of an answer that its reference has too, each at most as often as there.</summary>
/// <param name="Answer">How many n-grams the answer has.</param>
/// <param name="Reference">How many the reference has.</param>
/// <param name="Common">How many they share.</param>
internal readonly record struct NGramMatches(long Answer, long Reference, long Common)
{
    /// <summary>Share of the answer's n-grams that the reference has; 0 where it has none.</summary>
    public double Precision => Answer == 0 ? 0 : (double)Common / Answer;

    /// <summary>Share of the reference's n-grams that the answer has; 0 where it has none.</summary>
    public double Recall => Reference == 0 ? 0 : (double)Common / Reference;

    /// <summary>Counts of both.</summary>
    public static NGramMatches operator +(NGramMatches a, NGramMatches b) => new(a.Answer + b.Answer, a.Reference + b.Reference, a.Common + b.Common);

    /// <summary>Counts the n-grams of orders 1, 2, … in time and memory that grow with the lengths alone.</summary>
    /// <param name="answer">The answer's symbols.</param>
    /// <param name="reference">The reference's.</param>
    /// <param name="orders">Up to which order.</param>
    /// <returns>The counts of each order.</returns>
    public static NGramMatches[] Count(ReadOnlySpan<int> answer, ReadOnlySpan<int> reference, int orders)
    {
        // Each n-gram gets a number, equal ones the same: that of its first n − 1 symbols and its last symbol decide it.
        int[] ofAnswer = answer.ToArray();
        int[] ofReference = reference.ToArray();
        NGramMatches[] matches = new NGramMatches[orders];
        for (int n = 1; n <= orders; n++)
        {
            if (n > 1)
            {
                Dictionary<(int, int), int> numbers = [];
                Lengthen(ofAnswer, answer, n, numbers);
                Lengthen(ofReference, reference, n, numbers);
            }

            matches[n - 1] = Match(ofAnswer.AsSpan(0, Math.Max(0, answer.Length - n + 1)), ofReference.AsSpan(0, Math.Max(0, reference.Length - n + 1)));
        }

        return matches;
    }

    private static void Lengthen(int[] grams, ReadOnlySpan<int> symbols, int n, Dictionary<(int, int), int> numbers)
    {
        for (int i = 0; i + n <= symbols.Length; i++)
        {
            ref int number = ref CollectionsMarshal.GetValueRefOrAddDefault(numbers, (grams[i], symbols[i + n - 1]), out bool exists);
            number = exists ? number : numbers.Count;
            grams[i] = number;
        }
    }

    private static NGramMatches Match(ReadOnlySpan<int> answer, ReadOnlySpan<int> reference)
    {
        Dictionary<int, int> left = [];
        foreach (int gram in reference)
        {
            CollectionsMarshal.GetValueRefOrAddDefault(left, gram, out _)++;
        }

        long common = 0;
        foreach (int gram in answer)
        {
            ref int count = ref CollectionsMarshal.GetValueRefOrNullRef(left, gram);
            if (!Unsafe.IsNullRef(ref count) && count > 0)
            {
                count--;
                common++;
            }
        }

        return new NGramMatches(answer.Length, reference.Length, common);
    }
}
