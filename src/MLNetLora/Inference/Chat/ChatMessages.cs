using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.Extensions.AI;
using MLNetLora.Text;
using AIMessage = Microsoft.Extensions.AI.ChatMessage;
using ChatMessage = MLNetLora.Text.ChatMessage;

namespace MLNetLora.Inference;

/// <summary>Turns the messages and tools of Microsoft.Extensions.AI into a conversation of the chat template.</summary>
internal static class ChatMessages
{
    private static readonly JsonSerializerOptions s_json =
        new(AIJsonUtilities.DefaultOptions) { WriteIndented = false, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The conversation.</summary>
    /// <param name="messages">The messages.</param>
    /// <param name="instructions">What stands before everything else in the system message; null or empty for nothing.</param>
    /// <param name="tools">What may be called; null for nothing.</param>
    /// <exception cref="NotSupportedException">A message holds something else than text, calls and their results, or its role is unknown.</exception>
    public static Conversation ToConversation(IReadOnlyList<AIMessage> messages, string? instructions, IReadOnlyList<AIFunctionDeclaration>? tools)
    {
        List<ChatMessage> turns = [.. messages.SelectMany(Turns)];
        // Templates know one system message, at the beginning: those that come first become one.
        int system = turns.TakeWhile(turn => turn.Role == "system").Count();
        if (!string.IsNullOrEmpty(instructions) || system > 1)
        {
            IEnumerable<string?> texts = [instructions, .. turns.Take(system).Select(turn => turn.Content)];
            turns = [ChatMessage.System(string.Join("\n\n", texts.Where(text => !string.IsNullOrEmpty(text)))), .. turns.Skip(system)];
        }

        return new Conversation(turns, tools is { Count: > 0 } ? ToJson(tools) : null);
    }

    /// <summary>Tools as <see cref="Conversation.Tools"/> has them.</summary>
    public static IReadOnlyList<JsonElement> ToJson(IReadOnlyList<AIFunctionDeclaration> tools) => [.. tools.Select(ToJson)];

    /// <summary>A tool as OpenAI describes it, the form in which Qwen's templates are trained to see it.</summary>
    private static JsonElement ToJson(AIFunctionDeclaration tool)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("type", "function");
            json.WriteStartObject("function");
            json.WriteString("name", tool.Name);
            json.WriteString("description", tool.Description);
            json.WritePropertyName("parameters");
            tool.JsonSchema.WriteTo(json);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return JsonDocument.Parse(stream.ToArray()).RootElement;
    }

    /// <summary>A message may become several: every result of a call is a turn of its own.</summary>
    private static List<ChatMessage> Turns(AIMessage message)
    {
        string role = Role(message.Role);
        List<ChatMessage> turns = [];
        StringBuilder text = new();
        StringBuilder thinking = new();
        List<ToolCall> calls = [];
        foreach (AIContent content in message.Contents)
        {
            switch (content)
            {
                case TextContent part:
                    text.Append(part.Text);
                    break;
                case TextReasoningContent part when role == "assistant":
                    thinking.Append(part.Text);
                    break;
                case FunctionCallContent call when role == "assistant":
                    calls.Add(new ToolCall(call.Name, JsonSerializer.Serialize(call.Arguments ?? new Dictionary<string, object?>(), s_json), call.CallId));
                    break;
                case FunctionResultContent result:
                    turns.Add(ChatMessage.Tool(Text(result)) with { ToolCallId = result.CallId });
                    break;
                case UsageContent:
                    break; // what the message cost is no part of it
                default:
                    throw new NotSupportedException(
                        $"A message of the role {message.Role} holds {Name(content)}; this client takes text, and from the assistant its thinking and its "
                        + "calls of functions, with their results. Say in text what it holds.");
            }
        }

        if (turns.Count == 0 || text.Length > 0 || thinking.Length > 0 || calls.Count > 0)
        {
            turns.Add(new ChatMessage(role, text.ToString())
            {
                Thinking = thinking.Length > 0 ? thinking.ToString() : null,
                ToolCalls = calls.Count > 0 ? calls : null,
                Name = string.IsNullOrEmpty(message.AuthorName) ? null : message.AuthorName,
            });
        }

        return turns;
    }

    private static string Role(ChatRole role) => role.Value switch
    {
        "system" or "user" or "assistant" or "tool" => role.Value,
        "developer" => "system", // OpenAI's newer name
        _ => throw new NotSupportedException($"A message has the role {role}; chat templates know system (or developer), user, assistant and tool."),
    };

    private static string Text(FunctionResultContent result) => result.Result switch
    {
        null => result.Exception is null ? "" : "Error: the function failed.", // its message is not for everybody: who wants it told sets Result
        string text => text,
        JsonElement { ValueKind: JsonValueKind.String } text => text.GetString()!,
        TextContent content => content.Text,
        IEnumerable<AIContent> contents => string.Concat(contents.Select(content => content is TextContent text ? text.Text : throw Refused(content))),
        AIContent content => throw Refused(content),
        object value => JsonSerializer.Serialize(value, s_json),
    };

    private static NotSupportedException Refused(AIContent content) => new($"The result of a function holds {Name(content)}; this client takes text and data.");

    private static string Name(AIContent content) => content switch
    {
        DataContent data => $"data of type {data.MediaType}",
        UriContent uri => $"a link to data of type {uri.MediaType}",
        _ => content.GetType().Name,
    };
}
