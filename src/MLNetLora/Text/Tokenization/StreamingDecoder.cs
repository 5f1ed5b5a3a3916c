using System.Text;

namespace MLNetLora.Text;

/// <summary>
/// Turns ids into text one by one. A token may end in the middle of a character: its bytes wait until the character is whole, so that no half
/// character is ever shown.
/// All that it gives out, one after the other, is what <see cref="QwenTokenizer.Decode(ReadOnlySpan{int}, bool)"/> gives for the same ids. For one
/// stream on one thread at a time.
/// </summary>
internal sealed class StreamingDecoder
{
    private readonly QwenTokenizer _tokenizer;
    private readonly bool _skipSpecialTokens;
    private readonly Decoder _utf8 = Encoding.UTF8.GetDecoder();

    internal StreamingDecoder(QwenTokenizer tokenizer, bool skipSpecialTokens)
    {
        _tokenizer = tokenizer;
        _skipSpecialTokens = skipSpecialTokens;
    }

    /// <summary>Whether the bytes of half a character wait for the rest.</summary>
    public bool HasPending => _utf8.GetCharCount([], flush: true) > 0;

    /// <summary>Takes the next id.</summary>
    /// <param name="id">A token id; one that the tokenizer does not have adds nothing.</param>
    /// <returns>The characters that are whole by now; empty where more bytes are needed.</returns>
    public string Add(int id) => Decode(_tokenizer.Bytes(id, _skipSpecialTokens), flush: false);

    /// <summary>Ends the stream; the decoder is then ready for another.</summary>
    /// <returns>U+FFFD where a character was left incomplete, else empty.</returns>
    public string Finish() => Decode([], flush: true);

    private string Decode(ReadOnlySpan<byte> bytes, bool flush)
    {
        Span<char> stack = stackalloc char[256];
        int needed = _utf8.GetCharCount(bytes, flush);
        if (needed == 0 && bytes.IsEmpty && !flush)
        {
            return "";
        }

        Span<char> characters = needed <= stack.Length ? stack : new char[needed];
        return new string(characters[.._utf8.GetChars(bytes, characters, flush)]);
    }
}
