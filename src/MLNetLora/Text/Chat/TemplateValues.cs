using System.Text.Json;
using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>
/// Turns messages into values of a template, with the field names of transformers. Every text says where it comes from: what an assistant says is what is
/// learned.
/// </summary>
internal static class TemplateValues
{
    /// <summary>The messages of a conversation.</summary>
    public static JinjaList From(IEnumerable<ChatMessage> messages) => new([.. messages.Select(message => (object?)From(message))]);

    /// <summary>The messages of a conversation in transformers' own JSON.</summary>
    public static object? FromMessages(JsonElement messages)
    {
        if (messages.ValueKind != JsonValueKind.Array)
        {
            throw new TemplateException("The messages of a conversation are a JSON array of objects with role and content.");
        }

        return new JinjaList(
            [.. messages.EnumerateArray().Select(message => JinjaValues.From(message, IsAssistant(message) ? Origin.Assistant : Origin.Data))]);
    }

    private static bool IsAssistant(JsonElement message) =>
        message.ValueKind == JsonValueKind.Object
        && message.TryGetProperty("role", out JsonElement role)
        && role.ValueKind == JsonValueKind.String
        && role.ValueEquals("assistant");

    private static JinjaDict From(ChatMessage message)
    {
        Origin origin = message.Role == "assistant" ? Origin.Assistant : Origin.Data;
        JinjaDict dict = new();
        Set("role", message.Role, always: true);
        Set("content", message.Content ?? "", always: true);
        Set("reasoning_content", message.Thinking, always: false);
        Set("name", message.Name, always: false);
        Set("tool_call_id", message.ToolCallId, always: false);
        if (message.ToolCalls is { Count: > 0 } calls)
        {
            dict.Set(Key("tool_calls"), new JinjaList([.. calls.Select(call => (object?)From(call, origin))]));
        }

        return dict;

        void Set(string key, string? text, bool always)
        {
            if (text is not null || always)
            {
                dict.Set(Key(key), new TaggedText(text!, origin));
            }
        }
    }

    private static JinjaDict From(ToolCall call, Origin origin)
    {
        JinjaDict function = new();
        function.Set(Key("name"), new TaggedText(call.Name, origin));
        function.Set(Key("arguments"), ToolArguments(call.Arguments, origin));
        JinjaDict dict = new();
        if (call.Id is not null)
        {
            dict.Set(Key("id"), new TaggedText(call.Id, origin));
        }

        dict.Set(Key("type"), new TaggedText("function", origin));
        dict.Set(Key("function"), function);
        return dict;
    }

    /// <summary>Templates write arguments with tojson: as an object they become JSON, as a text they would become a quoted string of JSON.</summary>
    private static object? ToolArguments(string arguments, Origin origin)
    {
        try
        {
            using JsonDocument document = JsonText.ParseText(arguments);
            if (document.RootElement.ValueKind == JsonValueKind.Object)
            {
                return JinjaValues.From(document.RootElement, origin);
            }
        }
        catch (Exception error) when (error is JsonException or JinjaException)
        {
            // Not JSON, or with names that are no text: the template gets what there is.
        }

        return new TaggedText(arguments, origin);
    }

    private static TaggedText Key(string name) => new(name, Origin.Data);
}
