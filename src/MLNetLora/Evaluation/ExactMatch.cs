namespace MLNetLora.Evaluation;

/// <summary>
/// Whether an answer is its reference, character by character: the default of Hugging Face evaluate 0.4.6's exact_match, which normalizes nothing. Case,
/// punctuation, white space and forms of the same Unicode character (é in one or two code points) all count.
/// </summary>
public static class ExactMatch
{
    /// <summary>Compares.</summary>
    /// <param name="answer">What was answered.</param>
    /// <param name="reference">What should have been.</param>
    public static bool Is(string answer, string reference)
    {
        ArgumentNullException.ThrowIfNull(answer);
        ArgumentNullException.ThrowIfNull(reference);
        return string.Equals(answer, reference, StringComparison.Ordinal);
    }
}
