using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>Reads conversations: OpenAI's messages and ShareGPT's conversations, with tools.</summary>
internal static class MessageRows
{
    /// <summary>A row with messages, and tools (or functions) beside them.</summary>
    public static Conversation ReadMessages(JsonElement row, JsonElement messages, string where)
    {
        using JsonDocument? parsed = ParseText(messages, "messages", where);
        return new Conversation([.. ReadList(parsed?.RootElement ?? messages, where)], ReadTools(row, where));
    }

    /// <summary>A row of ShareGPT: from says who speaks (human, gpt, system, function_call, observation), value what.</summary>
    public static Conversation ReadShareGpt(JsonElement row, JsonElement conversations, string where)
    {
        using JsonDocument? parsed = ParseText(conversations, "conversations", where);
        List<ChatMessage> messages = [.. ReadList(parsed?.RootElement ?? conversations, where)];
        if (JsonFields.Text(row, "system", where) is { Length: > 0 } system && (messages.Count == 0 || messages[0].Role != "system"))
        {
            messages.Insert(0, ChatMessage.System(system));
        }

        return new Conversation(messages, ReadTools(row, where));
    }

    /// <summary>The messages of a list, in either spelling.</summary>
    public static IEnumerable<ChatMessage> ReadList(JsonElement list, string where)
    {
        if (list.ValueKind != JsonValueKind.Array)
        {
            throw new DatasetException($"{where}: the conversation is {JsonFields.Name(list.ValueKind)}, not a list of messages.");
        }

        int number = 0;
        foreach (JsonElement message in list.EnumerateArray())
        {
            string at = $"{where}, message {++number}";
            if (message.ValueKind != JsonValueKind.Object)
            {
                throw new DatasetException($"{at}: the message is {JsonFields.Name(message.ValueKind)}, not an object with role and content.");
            }

            yield return ReadMessage(message, at);
        }

        if (number == 0)
        {
            throw new DatasetException($"{where}: the conversation has no messages. Remove the row.");
        }
    }

    /// <summary>The tools beside a conversation: a list, or the JSON of one as a text; null where there are none.</summary>
    public static IReadOnlyList<JsonElement>? ReadTools(JsonElement row, string where)
    {
        string name = row.TryGetProperty("tools", out JsonElement tools) ? "tools" : "functions";
        bool given = name == "tools" || row.TryGetProperty(name, out tools);
        if (!given || tools.ValueKind == JsonValueKind.Null)
        {
            return null;
        }

        if (tools.ValueKind == JsonValueKind.String && string.IsNullOrWhiteSpace(JsonText.String(tools)))
        {
            return null; // The empty cell of a table.
        }

        using JsonDocument? parsed = ParseText(tools, name, where);
        JsonElement list = parsed?.RootElement ?? tools;
        if (list.ValueKind != JsonValueKind.Array || list.EnumerateArray().Any(tool => tool.ValueKind != JsonValueKind.Object))
        {
            throw new DatasetException($"{where}: \"{name}\" is not a list of tools, each an object with name, description and parameters.");
        }

        JsonElement[] all = [.. list.EnumerateArray().Select(WithType)];
        return all.Length == 0 ? null : all;
    }

    private static ChatMessage ReadMessage(JsonElement message, string at)
    {
        string from = JsonFields.Text(message, "role", at) ?? JsonFields.Text(message, "from", at)
            ?? throw new DatasetException($"{at}: \"role\" (or \"from\") is missing{JsonFields.Hint(message)}.");
        IReadOnlyList<ToolCall>? calls = ReadCalls(message, at);
        string? content = ReadContent(message, at);
        string? thinking = JsonFields.Text(message, "reasoning_content", at) ?? JsonFields.Text(message, "thinking", at);
        if (from == "function_call")
        {
            (calls, content) = (ReadCallText(content ?? "", at), "");
        }

        ChatMessage read = new(Role(from, at), content)
        {
            Thinking = thinking,
            ToolCalls = calls,
            Name = JsonFields.Text(message, "name", at),
            ToolCallId = JsonFields.Text(message, "tool_call_id", at),
            IsLearned = Weight(message, at),
        };
        if (read.Role is "assistant" or "user" && string.IsNullOrWhiteSpace(content) && calls is null && thinking is null)
        {
            throw new DatasetException($"{at}: the message is empty. Write what is said, or remove it.");
        }

        return read;
    }

    private static string Role(string from, string at) => from switch
    {
        "system" or "developer" => "system",
        "user" or "human" => "user",
        "assistant" or "gpt" or "bot" or "chatgpt" or "model" or "function_call" => "assistant",
        "tool" or "function" or "observation" or "tool_response" => "tool",
        _ => throw new DatasetException(
            $"{at}: the role \"{(from.Length <= 40 ? from : from[..40] + "…")}\" is not known. Use system, user, assistant or tool."),
    };

    /// <summary>content or value: a text, null, or a list of parts of which only texts can be learned.</summary>
    private static string? ReadContent(JsonElement message, string at)
    {
        if (!message.TryGetProperty("content", out JsonElement content) && !message.TryGetProperty("value", out content))
        {
            return null;
        }

        if (content.ValueKind != JsonValueKind.Array)
        {
            return JsonFields.Text(message, message.TryGetProperty("content", out _) ? "content" : "value", at);
        }

        return string.Concat(content.EnumerateArray().Select(part => ReadPart(part, at)));
    }

    private static string ReadPart(JsonElement part, string at)
    {
        if (part.ValueKind == JsonValueKind.Object && part.TryGetProperty("text", out JsonElement text))
        {
            part = text;
        }

        return part.ValueKind == JsonValueKind.String ? JsonText.String(part)
            : throw new DatasetException($"{at}: a part of \"content\" is not text. Pictures, sounds and films cannot be learned here.");
    }

    private static bool Weight(JsonElement message, string at)
    {
        if (!message.TryGetProperty("weight", out JsonElement weight) || weight.ValueKind == JsonValueKind.Null)
        {
            return true;
        }

        if (weight.ValueKind == JsonValueKind.Number && weight.TryGetDouble(out double value) && value is 0 or 1)
        {
            return value == 1;
        }

        throw new DatasetException($"{at}: \"weight\" is neither 0 nor 1.");
    }

    private static List<ToolCall>? ReadCalls(JsonElement message, string at)
    {
        if (!message.TryGetProperty("tool_calls", out JsonElement calls) || calls.ValueKind == JsonValueKind.Null)
        {
            return message.TryGetProperty("function_call", out JsonElement single) && single.ValueKind == JsonValueKind.Object ? [ReadCall(single, at)] : null;
        }

        if (calls.ValueKind != JsonValueKind.Array)
        {
            throw new DatasetException($"{at}: \"tool_calls\" is {JsonFields.Name(calls.ValueKind)}, not a list.");
        }

        List<ToolCall> all = [.. calls.EnumerateArray().Select(call => ReadCall(call, at))];
        return all.Count == 0 ? null : all;
    }

    private static ToolCall ReadCall(JsonElement call, string at)
    {
        JsonElement function = call;
        if (call.ValueKind == JsonValueKind.Object && call.TryGetProperty("function", out JsonElement inner))
        {
            function = inner;
        }

        if (function.ValueKind != JsonValueKind.Object || JsonFields.Text(function, "name", at) is not { Length: > 0 } name)
        {
            throw new DatasetException($"{at}: a call of a tool has no \"name\". Write {{\"name\": …, \"arguments\": {{…}}}}.");
        }

        string arguments = !function.TryGetProperty("arguments", out JsonElement value) || value.ValueKind == JsonValueKind.Null ? "{}"
            : value.ValueKind == JsonValueKind.String ? JsonText.String(value) : value.GetRawText();
        return new ToolCall(name, arguments, call.ValueKind == JsonValueKind.Object ? JsonFields.Text(call, "id", at) : null);
    }

    /// <summary>ShareGPT's function_call: the JSON of a call, or of a list of them, as a text.</summary>
    private static List<ToolCall> ReadCallText(string text, string at)
    {
        try
        {
            using JsonDocument document = JsonText.ParseText(text);
            JsonElement root = document.RootElement;
            return root.ValueKind == JsonValueKind.Array ? [.. root.EnumerateArray().Select(call => ReadCall(call, at))] : [ReadCall(root, at)];
        }
        catch (JsonException error)
        {
            throw new DatasetException($"{at}: the call of a tool is not JSON such as {{\"name\": …, \"arguments\": {{…}}}}: {error.Message}", error);
        }
    }

    /// <summary>The JSON that a text holds, as in the cell of a table; null where the value is not a text.</summary>
    private static JsonDocument? ParseText(JsonElement value, string name, string where)
    {
        if (value.ValueKind != JsonValueKind.String)
        {
            return null;
        }

        try
        {
            return JsonText.ParseText(JsonText.String(value));
        }
        catch (JsonException error)
        {
            throw new DatasetException($"{where}: \"{name}\" is a text that is not JSON: {error.Message}", error);
        }
    }

    /// <summary>Templates write tools as they are; most expect OpenAI's form, a function inside an object.</summary>
    private static JsonElement WithType(JsonElement tool)
    {
        if (tool.TryGetProperty("function", out _) || tool.TryGetProperty("type", out _) || !tool.TryGetProperty("name", out _))
        {
            return tool.Clone();
        }

        return JsonElement.Parse($"{{\"type\": \"function\", \"function\": {tool.GetRawText()}}}", new JsonDocumentOptions { MaxDepth = 128 });
    }
}
