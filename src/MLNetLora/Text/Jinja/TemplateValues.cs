using System.Collections;
using System.Globalization;
using System.Numerics;
using System.Text.Json;

namespace MLNetLora.Text.Jinja;

/// <summary>Turns what is to be rendered into values of a template. Every text says where it comes from.</summary>
internal static class TemplateValues
{
    private const int DepthLimit = 100;

    /// <summary>The messages of a conversation, with the field names of transformers.</summary>
    public static JinjaList From(IEnumerable<ChatMessage> messages) => new([.. messages.Select(message => (object?)From(message))]);

    /// <summary>The messages of a conversation in transformers' own JSON.</summary>
    public static object? FromMessages(JsonElement messages)
    {
        if (messages.ValueKind != JsonValueKind.Array)
            throw new TemplateException("The messages of a conversation are a JSON array of objects with role and content.");
        return new JinjaList([.. messages.EnumerateArray().Select(message =>
        {
            bool assistant = message.ValueKind == JsonValueKind.Object && message.TryGetProperty("role", out JsonElement role) && role.ValueKind == JsonValueKind.String && role.ValueEquals("assistant");
            return From(message, assistant ? Origin.Assistant : Origin.Data);
        })]);
    }

    /// <summary>A JSON value.</summary>
    public static object? From(JsonElement value, Origin origin)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.Object:
                JinjaDict dict = new();
                foreach (JsonProperty property in value.EnumerateObject())
                    dict.Set(new TaggedText(Name(property), origin), From(property.Value, origin));
                return dict;
            case JsonValueKind.Array:
                return new JinjaList([.. value.EnumerateArray().Select(item => From(item, origin))]);
            case JsonValueKind.String:
                return new TaggedText(UnicodeText.ReplaceUnpairedSurrogates(JsonText.String(value), out _), origin);
            case JsonValueKind.Number:
                return Number(value);
            case JsonValueKind.True:
            case JsonValueKind.False:
                return value.GetBoolean();
            default:
                return null;
        }
    }

    /// <summary>A variable that the caller gives: null, a truth value, number, text, JSON, or lists and dictionaries of these.</summary>
    /// <exception cref="TemplateException">It is something else.</exception>
    public static object? From(object? value, string name, int depth = 0)
    {
        if (depth > DepthLimit)
            throw new TemplateException($"The template variable {name} is nested more than {DepthLimit} levels deep.");
        switch (value)
        {
            case null or bool or long or double or BigInteger:
                return value;
            case int number:
                return (long)number;
            case float number:
                return (double)number;
            case string text:
                return new TaggedText(text, Origin.Data);
            case JsonElement json:
                return From(json, Origin.Data);
            case IEnumerable<KeyValuePair<string, object?>> pairs:
                JinjaDict dict = new();
                foreach ((string key, object? item) in pairs)
                    dict.Set(new TaggedText(key, Origin.Data), From(item, name, depth + 1));
                return dict;
            case IEnumerable items:
                return new JinjaList([.. items.Cast<object?>().Select(item => From(item, name, depth + 1))]);
            default:
                throw new TemplateException($"The template variable {name} is a {value.GetType().Name}. Give null, true or false, a number, a text, JSON, or lists and dictionaries of these.");
        }
    }

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
            dict.Set(Key("tool_calls"), new JinjaList([.. calls.Select(call => (object?)From(call, origin))]));
        return dict;

        void Set(string key, string? text, bool always)
        {
            if (text is not null || always)
                dict.Set(Key(key), new TaggedText(text!, origin));
        }
    }

    private static JinjaDict From(ToolCall call, Origin origin)
    {
        JinjaDict function = new();
        function.Set(Key("name"), new TaggedText(call.Name, origin));
        function.Set(Key("arguments"), ToolArguments(call.Arguments, origin));
        JinjaDict dict = new();
        if (call.Id is not null)
            dict.Set(Key("id"), new TaggedText(call.Id, origin));
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
                return From(document.RootElement, origin);
        }
        catch (JsonException)
        {
            // Not JSON: the template gets what there is.
        }
        return new TaggedText(arguments, origin);
    }

    private static TaggedText Key(string name) => new(name, Origin.Data);

    private static string Name(JsonProperty property)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException error)
        {
            // An escaped surrogate without its partner, which System.Text.Json refuses in names.
            throw new TemplateException("A name in the conversation's JSON is not valid text.", error);
        }
    }

    /// <summary>A number as Python's json module reads it: whole without point and exponent, however large.</summary>
    private static object Number(JsonElement value)
    {
        if (value.TryGetInt64(out long whole) && value.GetRawText() is var raw && !raw.AsSpan().ContainsAny(".eE"))
            return raw == "-0" ? 0L : whole;
        string digits = value.GetRawText();
        return digits.AsSpan().ContainsAny(".eE") || digits.Length > 4000 ? value.GetDouble() : BigInteger.Parse(digits, CultureInfo.InvariantCulture);
    }
}
