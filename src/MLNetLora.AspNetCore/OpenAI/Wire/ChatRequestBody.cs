using System.Text.Json;
using System.Text.Json.Serialization;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>The body of POST /v1/chat/completions.</summary>
internal sealed class ChatRequestBody : GenerationRequestBody
{
    public IReadOnlyList<ChatRequestMessage?>? Messages { get; set; }

    public int? MaxCompletionTokens { get; set; }

    public bool? Logprobs { get; set; }

    public int? TopLogprobs { get; set; }

    public ResponseFormat? ResponseFormat { get; set; }

    public IReadOnlyList<ToolDefinition?>? Tools { get; set; }

    public JsonElement? ToolChoice { get; set; }

    public bool? ParallelToolCalls { get; set; }

    public string? ReasoningEffort { get; set; }

    public ChatTemplateArguments? ChatTemplateKwargs { get; set; }

    public bool? ContinueFinalMessage { get; set; }

    public bool? AddGenerationPrompt { get; set; }
}

/// <summary>A message of the conversation.</summary>
internal sealed class ChatRequestMessage : WireObject
{
    public string? Role { get; set; }

    [JsonConverter(typeof(ContentConverter))]
    public MessageContent? Content { get; set; }

    public string? Name { get; set; }

    public IReadOnlyList<ToolCallMessage?>? ToolCalls { get; set; }

    public string? ToolCallId { get; set; }

    public string? ReasoningContent { get; set; }
}

/// <summary>What a message says: one of a text and parts.</summary>
internal sealed record MessageContent(string? Text, IReadOnlyList<ContentPart>? Parts);

/// <summary>A part of a message's content.</summary>
internal sealed class ContentPart : WireObject
{
    public string? Type { get; set; }

    public string? Text { get; set; }
}

/// <summary>A call that the assistant made.</summary>
internal sealed class ToolCallMessage : WireObject
{
    public string? Id { get; set; }

    public string? Type { get; set; }

    public CalledFunction? Function { get; set; }

    /// <summary>The place in a streamed message; clients that put such a message together leave it there.</summary>
    public int? Index { get; set; }
}

/// <summary>Which function is called, and with what.</summary>
internal sealed class CalledFunction : WireObject
{
    public string? Name { get; set; }

    public string? Arguments { get; set; }
}

/// <summary>A tool that the assistant may call.</summary>
internal sealed class ToolDefinition : WireObject
{
    public string? Type { get; set; }

    public FunctionDefinition? Function { get; set; }
}

/// <summary>A function that the assistant may call.</summary>
internal sealed class FunctionDefinition : WireObject
{
    public string? Name { get; set; }

    public string? Description { get; set; }

    public JsonElement? Parameters { get; set; }

    public bool? Strict { get; set; }
}

/// <summary>What the answer has to look like.</summary>
internal sealed class ResponseFormat : WireObject
{
    public string? Type { get; set; }

    public JsonSchemaFormat? JsonSchema { get; set; }
}

/// <summary>The schema of an answer.</summary>
internal sealed class JsonSchemaFormat : WireObject
{
    public string? Name { get; set; }

    public string? Description { get; set; }

    public JsonElement? Schema { get; set; }

    public bool? Strict { get; set; }
}

/// <summary>Variables of the chat template.</summary>
internal sealed class ChatTemplateArguments : WireObject
{
    public bool? EnableThinking { get; set; }
}
