using System.Text.Json.Serialization;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>An answer to POST /v1/chat/completions.</summary>
internal sealed record ChatCompletion(string Id, long Created, string Model, string SystemFingerprint, IReadOnlyList<ChatChoice> Choices, Usage Usage)
{
    public string Object { get; } = "chat.completion";
}

/// <summary>One of the answers.</summary>
internal sealed record ChatChoice(int Index, AnswerMessage Message, string FinishReason)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public LogprobsContent? Logprobs { get; init; }
}

/// <summary>What the assistant says.</summary>
internal sealed record AnswerMessage([property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? Content)
{
    public string Role { get; } = "assistant";

    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public string? Refusal { get; }

    public string? ReasoningContent { get; init; }

    public IReadOnlyList<ToolCallAnswer>? ToolCalls { get; init; }
}

/// <summary>A piece of a streamed answer.</summary>
internal sealed record ChatChunk(string Id, long Created, string Model, string SystemFingerprint, IReadOnlyList<ChatChunkChoice> Choices)
{
    public string Object { get; } = "chat.completion.chunk";

    public Usage? Usage { get; init; }
}

/// <summary>What is new of one of the answers.</summary>
internal sealed record ChatChunkChoice(
    int Index, AnswerDelta Delta, [property: JsonIgnore(Condition = JsonIgnoreCondition.Never)] string? FinishReason = null)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public LogprobsContent? Logprobs { get; init; }
}

/// <summary>What the assistant goes on with.</summary>
internal sealed record AnswerDelta
{
    public string? Role { get; init; }

    public string? Content { get; init; }

    public string? ReasoningContent { get; init; }

    public IReadOnlyList<ToolCallAnswer>? ToolCalls { get; init; }
}

/// <summary>A call that the assistant makes.</summary>
internal sealed record ToolCallAnswer(string Id, FunctionCallAnswer Function)
{
    /// <summary>Its place among the calls of a streamed answer.</summary>
    public int? Index { get; init; }

    public string Type { get; } = "function";
}

/// <summary>The function that is called; its arguments are JSON in a string.</summary>
internal sealed record FunctionCallAnswer(string Name, string Arguments);

/// <summary>Log probabilities of an answer's tokens.</summary>
internal sealed record LogprobsContent(IReadOnlyList<LogprobAnswer> Content)
{
    [JsonIgnore(Condition = JsonIgnoreCondition.Never)]
    public IReadOnlyList<LogprobAnswer>? Refusal { get; }
}

/// <summary>The log probability of a token, and the likeliest ones in its place.</summary>
internal sealed record LogprobAnswer(string Token, float Logprob, IReadOnlyList<int> Bytes)
{
    public IReadOnlyList<LogprobAnswer>? TopLogprobs { get; init; }
}

/// <summary>What an answer cost.</summary>
internal sealed record Usage(int PromptTokens, int CompletionTokens)
{
    public int TotalTokens => PromptTokens + CompletionTokens;

    public PromptTokensDetails? PromptTokensDetails { get; init; }
}

/// <summary>What the prompt's tokens cost.</summary>
/// <param name="CachedTokens">How many of them had been read for an earlier request.</param>
internal sealed record PromptTokensDetails(int CachedTokens);
