using System.Text;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>
/// The tokens of an answer's text, with log probabilities: those of the thinking and of its tags, of a stop string and of the end are not the client's. For one
/// answer.
/// </summary>
internal sealed class Logprobs
{
    private readonly List<LogprobAnswer> _held = [];
    private bool _hasThought;

    /// <summary>Takes the tokens of a piece of the answer.</summary>
    public void Add(GeneratedChunk chunk)
    {
        if (chunk.IsThinking)
        {
            _hasThought = true;
        }
        else if (chunk.Tokens is { } tokens && chunk.Text.Length > 0)
        {
            _held.AddRange((_hasThought ? Behind(tokens, Encoding.UTF8.GetByteCount(chunk.Text)) : tokens).Select(Of));
            _hasThought = false;
        }
    }

    /// <summary>Those that were not given out yet, to go with what is.</summary>
    /// <returns>Null for none.</returns>
    public LogprobsContent? Take()
    {
        if (_held.Count == 0)
        {
            return null;
        }

        LogprobsContent taken = new([.. _held]);
        _held.Clear();
        return taken;
    }

    private static LogprobAnswer Of(GeneratedToken token) => new(token.Text, token.Logprob, Bytes(token.Bytes))
    {
        TopLogprobs = [.. token.Top.Select(top => new LogprobAnswer(top.Text, top.Logprob, Bytes(top.Bytes)))],
    };

    private static int[] Bytes(ReadOnlyMemory<byte> bytes) => [.. bytes.ToArray().Select(value => (int)value)];

    /// <summary>The tokens without those that stand before a text: the tag that ends the thinking, and line breaks.</summary>
    private static IEnumerable<GeneratedToken> Behind(IReadOnlyList<GeneratedToken> tokens, int textBytes)
    {
        int bytes = tokens.Sum(token => token.Bytes.Length);
        return tokens.SkipWhile(token =>
        {
            bytes -= token.Bytes.Length;
            return bytes >= textBytes;
        });
    }
}
