using System.Globalization;
using System.Text;
using System.Text.Unicode;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Makes lists of the tokens of one answer; what was given out is not given out again.</summary>
/// <param name="top">How many of the likeliest tokens are told with each.</param>
internal sealed class CompletionTokens(int top)
{
    private List<string> _tokens = [];
    private List<float?> _logprobs = [];
    private List<IReadOnlyDictionary<string, float>?> _top = [];
    private List<int> _offsets = [];
    private int _characters;

    /// <summary>Takes the first token of a prompt, of which nobody can say how likely it is.</summary>
    public void AddFirst(ReadOnlyMemory<byte> bytes) => Add(bytes, null, null);

    /// <summary>Takes a token.</summary>
    public void Add(GeneratedToken token)
    {
        Dictionary<string, float> likeliest = [];
        foreach (TokenLogprob one in token.Top.Take(top))
        {
            likeliest.TryAdd(Text(one.Bytes), one.Logprob);
        }

        likeliest.TryAdd(Text(token.Bytes), token.Logprob); // OpenAI tells it in any case
        Add(token.Bytes, token.Logprob, likeliest);
    }

    /// <summary>Those that were not given out yet.</summary>
    public CompletionLogprobs Take()
    {
        CompletionLogprobs taken = new(_tokens, _logprobs, _top, _offsets);
        (_tokens, _logprobs, _top, _offsets) = ([], [], [], []);
        return taken;
    }

    private void Add(ReadOnlyMemory<byte> bytes, float? logprob, IReadOnlyDictionary<string, float>? likeliest)
    {
        _tokens.Add(Text(bytes));
        _logprobs.Add(logprob);
        _top.Add(likeliest);
        // In characters, as Python counts them; a token in the middle of one stands where that one does.
        bool inside = bytes.Length > 0 && IsInside(bytes.Span[0]);
        _offsets.Add(inside && _characters > 0 ? _characters - 1 : _characters);
        foreach (byte value in bytes.Span)
        {
            _characters += IsInside(value) ? 0 : 1;
        }
    }

    private static bool IsInside(byte value) => (value & 0xC0) == 0x80;

    /// <summary>A part of a character is told by its bytes, as OpenAI does it, so that no two tokens have one name.</summary>
    private static string Text(ReadOnlyMemory<byte> bytes) => Utf8.IsValid(bytes.Span)
        ? Encoding.UTF8.GetString(bytes.Span)
        : "bytes:" + string.Concat(bytes.ToArray().Select(value => string.Create(CultureInfo.InvariantCulture, $"\\x{value:x2}")));
}
