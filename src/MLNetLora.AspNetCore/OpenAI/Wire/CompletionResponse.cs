using System.Text.Json.Serialization;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>An answer to POST /v1/completions, or a piece of a streamed one.</summary>
internal sealed record Completion(string Id, long Created, string Model, string SystemFingerprint, IReadOnlyList<CompletionChoice> Choices)
{
    public string Object { get; } = "text_completion";

    public Usage? Usage { get; init; }
}

/// <summary>What follows one of the prompts, or what is new of it.</summary>
internal sealed record CompletionChoice(
    int Index, string Text, [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? FinishReason = null)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public CompletionLogprobs? Logprobs { get; init; }
}

/// <summary>
/// Log probabilities of tokens: lists of one length. The first token of a prompt has none, since nothing stands before it.
/// </summary>
internal sealed record CompletionLogprobs(
    IReadOnlyList<string> Tokens,
    IReadOnlyList<float?> TokenLogprobs,
    IReadOnlyList<IReadOnlyDictionary<string, float>?> TopLogprobs,
    IReadOnlyList<int> TextOffset);
