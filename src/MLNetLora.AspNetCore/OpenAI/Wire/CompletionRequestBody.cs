using System.Text.Json.Serialization;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>The body of POST /v1/completions.</summary>
internal sealed class CompletionRequestBody : GenerationRequestBody
{
    [JsonConverter(typeof(PromptConverter))]
    public IReadOnlyList<CompletionPrompt>? Prompt { get; set; }

    public bool? Echo { get; set; }

    public int? Logprobs { get; set; }
}

/// <summary>A text to go on with: one of a string and token ids.</summary>
internal sealed record CompletionPrompt(string? Text, IReadOnlyList<int>? Ids);
