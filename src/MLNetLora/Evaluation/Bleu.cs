namespace MLNetLora.Evaluation;

/// <summary>
/// BLEU-4 (Papineni et al. 2002, aclanthology.org/P02-1040) over characters, as LLaMA-Factory reports it: NLTK 3.8.1's sentence_bleu of the two lists of
/// characters, white space among them, with smoothing method 3. From 0 to 1; LLaMA-Factory's "bleu-4" is a hundred times the mean.
/// </summary>
public static class Bleu
{
    private const int Orders = 4;

    /// <summary>The score of one row against one reference.</summary>
    /// <remarks>
    /// exp(mean of log pₙ) over n = 1 … 4, times exp(1 − r/c) where the answer's length c is at most the reference's, r. pₙ is the share of the answer's
    /// n-grams that the reference has; the k-th that would be 0 is 1/2ᵏ of one n-gram (a text too short for an order counts as having one n-gram of it).
    /// 0 where no character is shared.
    /// </remarks>
    /// <param name="answer">What was answered.</param>
    /// <param name="reference">What should have been.</param>
    public static double Sentence(string answer, string reference)
    {
        ArgumentNullException.ThrowIfNull(answer);
        ArgumentNullException.ThrowIfNull(reference);
        int[] characters = TextSymbols.Characters(answer);
        int[] referenceCharacters = TextSymbols.Characters(reference);
        NGramMatches[] matches = NGramMatches.Count(characters, referenceCharacters, Orders);
        if (matches[0].Common == 0)
        {
            return 0;
        }

        double logarithms = 0;
        double smoothed = 1;
        foreach (NGramMatches match in matches)
        {
            double counted = match.Common > 0 ? match.Common : smoothed /= 2;
            logarithms += Math.Log(counted / Math.Max(1, match.Answer));
        }

        double brevity = Math.Min(0, 1 - ((double)referenceCharacters.Length / characters.Length));
        return Math.Exp(brevity + (logarithms / Orders));
    }
}
