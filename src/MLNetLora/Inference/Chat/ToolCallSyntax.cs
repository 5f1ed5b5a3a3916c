using System.Text.Json;
using Microsoft.Extensions.AI;
using MLNetLora.Inference.Constraints;
using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>
/// How Qwen writes the call of a tool between &lt;tool_call&gt; and &lt;/tool_call&gt;: as JSON, <c>{"name": …, "arguments": {…}}</c>, or, from Qwen3-Coder and
/// Qwen3.5 on, as <c>&lt;function=name&gt;&lt;parameter=key&gt;value&lt;/parameter&gt;&lt;/function&gt;</c>. Which of them it is, the call itself says.
/// </summary>
internal static class ToolCallSyntax
{
    private static readonly JsonDocumentOptions s_json = new() { MaxDepth = 128 };

    /// <summary>Reads a call.</summary>
    /// <param name="body">What stands between the tags.</param>
    /// <param name="schemas">The JSON schemas of the tools' parameters by the tools' names: whether a value without quotes is a text depends on them.</param>
    /// <returns>
    /// The call with an id of its own; null where the text is no call. Half of a call is not given out as one with an exception, because who invokes
    /// functions automatically would run it with the arguments that it lacks left at their defaults.
    /// </returns>
    public static FunctionCallContent? Parse(string body, IReadOnlyDictionary<string, JsonElement> schemas)
    {
        string text = body.Trim();
        try
        {
            (string Name, Dictionary<string, object?> Arguments)? call = text.StartsWith(ToolCallTags.Function, StringComparison.Ordinal)
                ? ParseTags(text, schemas)
                : ParseJson(text);
            return call is { } found ? new FunctionCallContent($"call_{Guid.NewGuid():N}", found.Name, found.Arguments) : null;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            // Not JSON, or a name with half a character in it, which no string of JSON's can be.
            return null;
        }
    }

    private static (string Name, Dictionary<string, object?> Arguments)? ParseJson(string text)
    {
        using JsonDocument document = JsonDocument.Parse(UnicodeText.ReplaceUnpairedSurrogates(text, out _), s_json);
        JsonElement root = document.RootElement;
        if (root.ValueKind != JsonValueKind.Object
            || !root.TryGetProperty("name", out JsonElement name)
            || name.ValueKind != JsonValueKind.String
            || name.GetString() is not { Length: > 0 } function)
        {
            return null;
        }

        if (!root.TryGetProperty("arguments", out JsonElement arguments) || arguments.ValueKind == JsonValueKind.Null)
        {
            return (function, []);
        }

        if (arguments.ValueKind == JsonValueKind.String)
        {
            using JsonDocument quoted = JsonDocument.Parse(arguments.GetString()!, s_json);
            return Values(quoted.RootElement) is { } unquoted ? (function, unquoted) : null;
        }

        return Values(arguments) is { } values ? (function, values) : null;
    }

    private static Dictionary<string, object?>? Values(JsonElement arguments)
    {
        if (arguments.ValueKind != JsonValueKind.Object)
        {
            return null;
        }

        Dictionary<string, object?> values = new(StringComparer.Ordinal);
        foreach (JsonProperty property in arguments.EnumerateObject())
        {
            values[property.Name] = property.Value.ValueKind == JsonValueKind.Null ? null : property.Value.Clone();
        }

        return values;
    }

    private static (string Name, Dictionary<string, object?> Arguments)? ParseTags(string text, IReadOnlyDictionary<string, JsonElement> schemas)
    {
        int nameEnd = text.IndexOf('>', StringComparison.Ordinal);
        int end = text.LastIndexOf(ToolCallTags.FunctionEnd, StringComparison.Ordinal);
        if (nameEnd < 0 || end < nameEnd || text[(end + ToolCallTags.FunctionEnd.Length)..].Trim().Length > 0)
        {
            return null;
        }

        string name = text[ToolCallTags.Function.Length..nameEnd].Trim();
        if (name.Length == 0)
        {
            return null;
        }

        JsonElement schema = schemas.GetValueOrDefault(name);
        Dictionary<string, object?> arguments = new(StringComparer.Ordinal);
        ReadOnlySpan<char> rest = text.AsSpan(nameEnd + 1, end - nameEnd - 1).TrimStart();
        while (rest.Length > 0)
        {
            int keyEnd = rest.StartsWith(ToolCallTags.Parameter, StringComparison.Ordinal) ? rest.IndexOf('>') : -1;
            int valueEnd = keyEnd < 0 ? -1 : rest.IndexOf(ToolCallTags.ParameterEnd, StringComparison.Ordinal);
            if (valueEnd < keyEnd || keyEnd < 0)
            {
                return null;
            }

            string key = rest[ToolCallTags.Parameter.Length..keyEnd].Trim().ToString();
            arguments[key] = Value(rest[(keyEnd + 1)..valueEnd], schema, key);
            rest = rest[(valueEnd + ToolCallTags.ParameterEnd.Length)..].TrimStart();
        }

        return (name, arguments);
    }

    /// <summary>A value that is written without quotes, on lines of its own.</summary>
    private static JsonElement? Value(ReadOnlySpan<char> written, JsonElement schema, string key)
    {
        JsonElement? own = TaggedValue.Schema(schema, key);
        written = written is ['\n', ..] ? written[1..] : written;
        string text = (written is [.., '\n'] ? written[..^1] : written).ToString();
        if (TaggedValue.Names(schema, own, JsonTypes.String))
        {
            return text == "null" && TaggedValue.Names(schema, own, JsonTypes.Null) ? null : JsonSerializer.SerializeToElement(text);
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(UnicodeText.ReplaceUnpairedSurrogates(text, out _), s_json);
            return document.RootElement.ValueKind == JsonValueKind.Null ? null : document.RootElement.Clone();
        }
        catch (JsonException)
        {
            return JsonSerializer.SerializeToElement(text);
        }
    }
}
