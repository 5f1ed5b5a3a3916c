using System.Text.RegularExpressions;

namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>Cuts a long text at the ends of sentences.</summary>
internal static partial class TextChunks
{
    /// <summary>Chunks of at most <paramref name="limit"/> tokens, each beginning with a sentence; a single sentence beyond the limit is left out.</summary>
    public static IEnumerable<string> Split(string text, int limit, Func<string, int> countTokens)
    {
        string chunk = "";
        foreach (string sentence in SentenceEnd().Split(text).Where(sentence => sentence.Length > 0))
        {
            // Counted on the joined text: the sum of the parts can differ where a piece reaches across the seam.
            string longer = chunk + sentence;
            if (countTokens(longer.Trim()) <= limit)
            {
                chunk = longer;
                continue;
            }
            if (chunk.Trim().Length > 0)
            {
                yield return chunk.Trim();
            }

            chunk = countTokens(sentence.Trim()) <= limit ? sentence : "";
        }
        if (chunk.Trim().Length > 0)
        {
            yield return chunk.Trim();
        }
    }

    // The articles have lost the break between paragraphs ("realms.Humans"): a full stop between a small and a capital letter ends a sentence too.
    [GeneratedRegex(@"(?<=[.!?][""”')]?)(?=\s)|(?<=[。！？][”’」』）]?)(?![”’」』）])|(?<=\p{Ll}\.)(?=\p{Lu}\p{Ll})|(?<=\n)", RegexOptions.CultureInvariant)]
    private static partial Regex SentenceEnd();
}
