using System.Buffers;
using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>
/// Conversations as JSON in OpenAI's form: {"messages": [{"role": …, "content": …}, …], "tools": […]}, with tool_calls, reasoning_content and weight 0 for
/// answers that are not learned.
/// </summary>
internal static class ConversationJson
{
    private static readonly JsonWriterOptions s_options = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };

    /// <summary>Writes a conversation. Unpaired surrogates stay what they are, as escapes.</summary>
    public static string Write(Conversation conversation)
    {
        ArrayBufferWriter<byte> buffer = new(1024);
        using (Utf8JsonWriter json = new(buffer, s_options))
        {
            json.WriteStartObject();
            json.WriteStartArray("messages");
            foreach (ChatMessage message in conversation.Messages)
            {
                WriteMessage(json, message);
            }

            json.WriteEndArray();
            if (conversation.Tools is { } tools)
            {
                json.WriteStartArray("tools");
                foreach (JsonElement tool in tools)
                {
                    json.WriteRawValue(tool.GetRawText(), skipInputValidation: true);
                }

                json.WriteEndArray();
            }
            json.WriteEndObject();
        }
        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    /// <summary>Reads a conversation: such an object (or ShareGPT's, with conversations), or only the list of messages.</summary>
    /// <param name="text">JSON.</param>
    /// <param name="where">Where it stands, for messages.</param>
    /// <exception cref="DatasetException">It is not a conversation.</exception>
    public static Conversation Read(string text, string where)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(EscapeUnpaired(text, piece => piece), new JsonDocumentOptions { MaxDepth = 128 });
            JsonElement root = document.RootElement;
            if (root.ValueKind == JsonValueKind.Array)
            {
                return new Conversation([.. MessageRows.ReadList(root, where)]);
            }

            if (root.ValueKind != JsonValueKind.Object)
            {
                throw new DatasetException($"{where}: the conversation is {JsonFields.Name(root.ValueKind)}, not an object such as {{\"messages\": […], "
                    + $"\"tools\": […]}} or a list of messages.");
            }

            if (root.TryGetProperty("messages", out JsonElement messages))
            {
                return MessageRows.ReadMessages(root, messages, where);
            }

            if (root.TryGetProperty("conversations", out messages) || root.TryGetProperty("conversation", out messages))
            {
                return MessageRows.ReadShareGpt(root, messages, where);
            }

            throw new DatasetException($"{where}: \"messages\" is missing{JsonFields.Hint(root)}.");
        }
        catch (JsonException error)
        {
            throw new DatasetException($"{where}: the conversation is not valid JSON: {error.Message}", error);
        }
        catch (InvalidOperationException error)
        {
            // The name of a field can hold an escaped surrogate without its partner, which System.Text.Json refuses.
            throw new DatasetException($"{where}: the name of a field is not valid text. Correct it.", error);
        }
    }

    /// <summary>Writes earlier turns, [["question", "answer"], …].</summary>
    public static string WriteHistory(IEnumerable<InstructionTurn> history) =>
        $"[{string.Join(", ", history.Select(turn => $"[{Quote(turn.Instruction)}, {Quote(turn.Output)}]"))}]";

    /// <summary>Reads them; null where there are none.</summary>
    /// <exception cref="DatasetException">It is something else.</exception>
    public static IReadOnlyList<InstructionTurn>? ReadHistory(string text, string where)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(EscapeUnpaired(text, piece => piece));
            return DatasetRows.ReadHistory(document.RootElement, where);
        }
        catch (JsonException error)
        {
            throw new DatasetException($"{where} is not JSON such as [[\"question\", \"answer\"], …]: {error.Message}", error);
        }
    }

    private static string Quote(string text) => $"\"{EscapeUnpaired(text, s_options.Encoder!.Encode)}\"";

    private static void WriteMessage(Utf8JsonWriter json, ChatMessage message)
    {
        json.WriteStartObject();
        WriteText(json, "role", message.Role);
        WriteText(json, "content", message.Content);
        if (message.Thinking is not null)
        {
            WriteText(json, "reasoning_content", message.Thinking);
        }

        if (message.ToolCalls is { } calls)
        {
            json.WriteStartArray("tool_calls");
            foreach (ToolCall call in calls)
            {
                json.WriteStartObject();
                if (call.Id is not null)
                {
                    WriteText(json, "id", call.Id);
                }

                json.WriteString("type", "function");
                json.WriteStartObject("function");
                WriteText(json, "name", call.Name);
                WriteText(json, "arguments", call.Arguments);
                json.WriteEndObject();
                json.WriteEndObject();
            }
            json.WriteEndArray();
        }
        if (message.Name is not null)
        {
            WriteText(json, "name", message.Name);
        }

        if (message.ToolCallId is not null)
        {
            WriteText(json, "tool_call_id", message.ToolCallId);
        }

        if (!message.IsLearned)
        {
            json.WriteNumber("weight", 0);
        }

        json.WriteEndObject();
    }

    private static void WriteText(Utf8JsonWriter json, string name, string? text)
    {
        json.WritePropertyName(name);
        if (text is null)
        {
            json.WriteNullValue();
        }
        else if (UnicodeText.UnpairedSurrogates(text) == 0)
        {
            json.WriteStringValue(text);
        }
        else
        {
            json.WriteRawValue(Quote(text), skipInputValidation: true);
        }
    }

    /// <summary>Text with every unpaired surrogate written as an escape, which UTF-8 can carry; the pieces between them as the caller writes them.</summary>
    private static string EscapeUnpaired(string text, Func<string, string> write)
    {
        if (UnicodeText.UnpairedSurrogates(text) == 0)
        {
            return write(text);
        }

        StringBuilder escaped = new(text.Length + 16);
        int start = 0;
        for (int i = 0; i < text.Length; i++)
        {
            if (!char.IsSurrogate(text[i]))
            {
                continue;
            }

            if (char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
            {
                i++;
                continue;
            }
            escaped.Append(write(text[start..i])).Append(CultureInfo.InvariantCulture, $"\\u{(int)text[i]:x4}");
            start = i + 1;
        }
        return escaped.Append(write(text[start..])).ToString();
    }
}
