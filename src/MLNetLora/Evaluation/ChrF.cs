namespace MLNetLora.Evaluation;

/// <summary>
/// chrF (Popović 2015, aclanthology.org/W15-3049), and chrF++ with word pairs (Popović 2017, aclanthology.org/W17-4770), as sacreBLEU 2.6.0 computes them
/// by default: character n-grams of orders 1 to 6 without white space, β = 2, for one reference. From 0 to 100. Needs no words, so it serves every language.
/// </summary>
/// <remarks>
/// P and R are the means of the n-grams' precisions and recalls over the orders that both texts have (sacreBLEU's effective order, without its
/// eps_smoothing), chrF = 100·(1 + β²)·P·R / (β²·P + R). Of a corpus the n-grams are counted over all rows, which is not the mean of the rows' scores.
/// </remarks>
public sealed class ChrF
{
    /// <summary>The word order of chrF++.</summary>
    public const int PlusPlus = 2;

    private const int CharacterOrder = 6;
    private const double BetaSquared = 4;
    private const string Punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

    private readonly int _wordOrder;
    private readonly NGramMatches[] _counts;

    /// <summary>Begins with no rows.</summary>
    /// <param name="wordOrder">Up to how many words in a row count beside the characters: 0 for chrF, <see cref="PlusPlus"/> for chrF++. At most 9.</param>
    public ChrF(int wordOrder = 0)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(wordOrder);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(wordOrder, 9);
        _wordOrder = wordOrder;
        _counts = new NGramMatches[CharacterOrder + wordOrder];
    }

    /// <summary>chrF of all rows together; 0 where there are none.</summary>
    public double Score => Of(_counts);

    /// <summary>chrF of one row: sacreBLEU's sentence_chrf.</summary>
    /// <param name="answer">What was answered.</param>
    /// <param name="reference">What should have been.</param>
    /// <param name="wordOrder">See <see cref="ChrF(int)"/>.</param>
    public static double Sentence(string answer, string reference, int wordOrder = 0)
    {
        ChrF one = new(wordOrder);
        one.Add(answer, reference);
        return one.Score;
    }

    /// <summary>Counts a row.</summary>
    /// <param name="answer">What was answered.</param>
    /// <param name="reference">What should have been.</param>
    public void Add(string answer, string reference)
    {
        ArgumentNullException.ThrowIfNull(answer);
        ArgumentNullException.ThrowIfNull(reference);
        Add(NGramMatches.Count(Characters(answer), Characters(reference), CharacterOrder), 0);
        if (_wordOrder > 0)
        {
            (int[] words, int[] referenceWords) = TextSymbols.Number(Words(answer), Words(reference));
            Add(NGramMatches.Count(words, referenceWords, _wordOrder), CharacterOrder);
        }

        void Add(NGramMatches[] counts, int first)
        {
            for (int i = 0; i < counts.Length; i++)
            {
                // n-grams of an order that the reference has none of do not count against the answer.
                _counts[first + i] += counts[i].Reference > 0 ? counts[i] : default;
            }
        }
    }

    private static double Of(NGramMatches[] counts)
    {
        NGramMatches[] effective = [.. counts.Where(count => count is { Answer: > 0, Reference: > 0 })];
        double precision = effective.Length == 0 ? 0 : effective.Average(count => count.Precision);
        double recall = effective.Length == 0 ? 0 : effective.Average(count => count.Recall);
        return precision + recall == 0 ? 0 : 100 * (1 + BetaSquared) * precision * recall / ((BetaSquared * precision) + recall);
    }

    private static int[] Characters(string text) => TextSymbols.Characters(TextSymbols.WithoutSpace(text));

    /// <summary>Words between white space; of each that is longer than a character, one mark of punctuation stands alone: its last character, or else its
    /// first.</summary>
    private static List<string> Words(string text)
    {
        List<string> words = [];
        foreach (string word in TextSymbols.Split(text))
        {
            int length = word.Length;
            if (length == 1 || (length == 2 && char.IsSurrogatePair(word, 0)))
            {
                words.Add(word);
            }
            else if (Punctuation.Contains(word[^1], StringComparison.Ordinal))
            {
                words.AddRange([word[..^1], word[^1..]]);
            }
            else if (Punctuation.Contains(word[0], StringComparison.Ordinal))
            {
                words.AddRange([word[..1], word[1..]]);
            }
            else
            {
                words.Add(word);
            }
        }

        return words;
    }
}
