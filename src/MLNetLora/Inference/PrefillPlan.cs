using MLNetLora.Models;

namespace MLNetLora.Inference;

/// <summary>A part of a batch's prompts that goes through the graph at once.</summary>
/// <param name="FirstRow">The first row.</param>
/// <param name="Rows">How many rows; 1 unless <paramref name="Start"/> is 0, since attention takes several rows with a past only for a token each.</param>
/// <param name="Start">Tokens of the row that are in the cache before.</param>
/// <param name="Length">Most tokens of a row.</param>
internal readonly record struct PrefillPart(int FirstRow, int Rows, int Start, int Length)
{
    /// <summary>What of a prompt is in the part.</summary>
    public ArraySegment<int> Of(int[] ids) => new(ids, Start, Math.Min(Length, ids.Length - Start));
}

/// <summary>
/// Cuts prompts into parts, for two reasons: a run can be ended between two nodes only, so none may take long; and the scores of attention, heads x
/// tokens x keys, are a whole matrix.
/// </summary>
internal static class PrefillPlan
{
    private const int MostTokens = 2048;
    private const int LeastTokens = 64;
    private const int PartOfARow = 512;

    // Of the largest product of a layer: a fifth of a second on two cores.
    private const double MostFlops = 20e9;

    /// <summary>The parts, in the order in which they must run.</summary>
    /// <param name="config">The model.</param>
    /// <param name="prompts">Tokens of each prompt.</param>
    public static IEnumerable<PrefillPart> Of(QwenConfig config, IReadOnlyList<int> prompts) => Cut(prompts, TokensAtOnce(config));

    /// <summary>The same for a number of tokens at once.</summary>
    internal static IEnumerable<PrefillPart> Cut(IReadOnlyList<int> prompts, int tokensAtOnce)
    {
        for (int first = 0; first < prompts.Count;)
        {
            (int rows, int longest) = (1, prompts[first]);
            while (first + rows < prompts.Count && (rows + 1L) * Math.Max(longest, prompts[first + rows]) <= tokensAtOnce)
            {
                longest = Math.Max(longest, prompts[first + rows]);
                rows++;
            }

            int part = OfARow(longest, tokensAtOnce);
            for (int start = 0; start < longest; start += part)
            {
                yield return new PrefillPart(first, rows, start, Math.Min(part, longest - start));
            }

            first += rows;
        }
    }

    /// <summary>How many tokens of a row go through the graph at once; of a long one as many each time, since attention's scores are tokens x keys.</summary>
    /// <param name="tokens">Tokens of its prompt.</param>
    /// <param name="tokensAtOnce">Most tokens at once.</param>
    internal static int OfARow(int tokens, int tokensAtOnce) => tokens <= tokensAtOnce ? tokens : Math.Min(tokensAtOnce, PartOfARow);

    /// <summary>The next part of a row, so that all that are left are alike: a part of a few tokens reads the weights as a long one does.</summary>
    /// <param name="tokens">Tokens of its prompt.</param>
    /// <param name="read">Those that were read.</param>
    /// <param name="tokensAtOnce">Most tokens at once.</param>
    internal static int Next(int tokens, int read, int tokensAtOnce)
    {
        (int rest, int most) = (tokens - read, OfARow(tokens, tokensAtOnce));
        int parts = (rest + most - 1) / most;
        return (rest + parts - 1) / parts;
    }

    /// <summary>Most tokens that go through the graph at once.</summary>
    internal static int TokensAtOnce(QwenConfig config) =>
        (int)Math.Clamp(MostFlops / (2.0 * config.HiddenSize * config.IntermediateSize), LeastTokens, MostTokens);
}
