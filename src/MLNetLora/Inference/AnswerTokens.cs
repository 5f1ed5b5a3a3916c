using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// The tokens of an answer with log probabilities, and which of them go with a piece of its text: those that end in it or before it, and were in none before.
/// What is held back (half a character, what may become a stop string) holds its tokens back.
/// </summary>
/// <param name="tokenizer">The checkpoint's tokenizer.</param>
internal sealed class AnswerTokens(QwenTokenizer tokenizer)
{
    private readonly List<GeneratedToken> _all = [];
    private readonly List<int> _ends = [];
    private int _given;

    /// <summary>All of them so far.</summary>
    public IReadOnlyList<GeneratedToken> All => _all;

    /// <summary>Takes the next token.</summary>
    /// <param name="token">The token.</param>
    /// <param name="end">Characters of the whole text that there must be for it to be in it.</param>
    public void Add(ChosenToken token, int end)
    {
        _all.Add(new GeneratedToken(
            token.Id, Bytes(token.Id), token.Logprob, [.. (token.Top ?? []).Select(top => new TokenLogprob(top.Id, Bytes(top.Id), top.Logprob))]));
        _ends.Add(end);
    }

    /// <summary>The tokens of a piece of text.</summary>
    /// <param name="upTo">Where it ends, in characters of the whole text.</param>
    public IReadOnlyList<GeneratedToken> Take(int upTo)
    {
        int first = _given;
        while (_given < _all.Count && _ends[_given] <= upTo)
        {
            _given++;
        }

        return _all.GetRange(first, _given - first);
    }

    private byte[] Bytes(int id) => tokenizer.Bytes(id, skipSpecialTokens: false).ToArray();
}
