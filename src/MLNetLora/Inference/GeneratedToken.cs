using System.Text;

namespace MLNetLora.Inference;

/// <summary>A token of an answer with what the model thought of it; see <see cref="GenerationOptions.TopLogprobs"/>.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Bytes">
/// The UTF-8 bytes that it stands for; of a control token those of its name, such as &lt;|im_end|&gt;. A token may be a part of a character alone.
/// </param>
/// <param name="Logprob">Its log probability in the model's own distribution, natural logarithm: 0 is certain.</param>
/// <param name="Top">The likeliest tokens in its place, best first, as many as were asked for; itself is not always one of them.</param>
public sealed record GeneratedToken(int Id, ReadOnlyMemory<byte> Bytes, float Logprob, IReadOnlyList<TokenLogprob> Top)
{
    /// <summary>The bytes as text, U+FFFD where they are a part of a character.</summary>
    public string Text => Encoding.UTF8.GetString(Bytes.Span);
}

/// <summary>A token that might have been.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Bytes">The UTF-8 bytes that it stands for; see <see cref="GeneratedToken.Bytes"/>.</param>
/// <param name="Logprob">Its log probability in the model's own distribution.</param>
public sealed record TokenLogprob(int Id, ReadOnlyMemory<byte> Bytes, float Logprob)
{
    /// <summary>The bytes as text, U+FFFD where they are a part of a character.</summary>
    public string Text => Encoding.UTF8.GetString(Bytes.Span);
}
