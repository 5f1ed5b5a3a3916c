using System.Runtime.InteropServices;

namespace MLNetLora.Inference;

/// <summary>
/// Guesses what a row goes on with: what stood behind its last tokens where they were before, in the prompt or in the answer (prompt lookup decoding,
/// Saxena 2023; transformers' prompt_lookup_num_tokens). Answers that quote, correct or extract are guessed often.
/// </summary>
/// <param name="prompt">Token ids of the prompt.</param>
/// <param name="most">Most tokens of a guess.</param>
internal sealed class PromptLookup(int[] prompt, int most)
{
    private const int LongestMatch = 3;
    private const int ShortestMatch = 2;

    private readonly List<int> _tokens = [.. prompt];
    private int _length = Math.Min(most, 4); // grows while guesses hold, as transformers' does

    /// <summary>Takes a token of the answer.</summary>
    public void Add(int token) => _tokens.Add(token);

    /// <summary>What may come next; empty where the last tokens were not there before.</summary>
    /// <param name="room">Most tokens that there is room for.</param>
    public int[] Guess(int room)
    {
        ReadOnlySpan<int> all = CollectionsMarshal.AsSpan(_tokens);
        int count = Math.Min(_length, room);
        for (int n = LongestMatch; n >= ShortestMatch && count > 0; n--)
        {
            if (all.Length <= n)
            {
                continue;
            }

            int at = all[..^1].LastIndexOf(all[^n..]);
            if (at >= 0)
            {
                ReadOnlySpan<int> behind = all[(at + n)..];
                return behind[..Math.Min(count, behind.Length)].ToArray();
            }
        }

        return [];
    }

    /// <summary>Learns how a guess held.</summary>
    /// <param name="guessed">Its tokens.</param>
    /// <param name="held">How many of them came.</param>
    public void Learn(int guessed, int held) => _length = held == guessed ? Math.Min(most, _length + 2) : Math.Max(1, _length - 1);
}
