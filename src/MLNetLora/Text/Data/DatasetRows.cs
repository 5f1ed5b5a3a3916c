using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>Reads the rows of the formats that data sets come in.</summary>
internal static class DatasetRows
{
    /// <summary>The names of the fields that rows have, in all formats.</summary>
    public static readonly HashSet<string> Fields = new(StringComparer.OrdinalIgnoreCase)
    {
        "instruction", "input", "output", "system", "history", "messages", "conversations", "conversation",
        "prompt", "completion", "response", "text", "tools", "functions",
    };

    private static readonly string[] Completions = ["completion", "response"];
    private static readonly string[] Conversations = ["conversations", "conversation"];

    /// <summary>The format of a row by its fields.</summary>
    /// <exception cref="DatasetException">It is none that is known.</exception>
    public static DatasetFormat Recognize(JsonElement row, string where)
    {
        if (row.ValueKind != JsonValueKind.Object)
            throw new DatasetException($"{where}: the row is {JsonFields.Name(row.ValueKind)}, not an object such as {{\"instruction\": \"…\", \"output\": \"…\"}}.");
        if (Has("messages"))
            return DatasetFormat.Messages;
        if (Conversations.Any(Has))
            return DatasetFormat.ShareGpt;
        if (Has("instruction"))
            return DatasetFormat.Instruction;
        if (Has("prompt") && Completions.Any(Has))
            return DatasetFormat.PromptCompletion;
        if (Has("text"))
            return DatasetFormat.Text;
        throw new DatasetException(
            $"{where}: the format is not recognised{JsonFields.Hint(row)}. Known are instruction and output; messages; conversations; prompt and completion; text. Rename the fields, or name the format.");

        bool Has(string name) => row.TryGetProperty(name, out _);
    }

    /// <summary>Reads one row; where it stands is for the caller to fill in.</summary>
    /// <exception cref="DatasetException">A field is missing or has the wrong type.</exception>
    public static DatasetRow Read(JsonElement row, DatasetFormat format, string? promptTemplate, string where)
    {
        if (row.ValueKind != JsonValueKind.Object)
            throw new DatasetException($"{where}: the row is {JsonFields.Name(row.ValueKind)}, not an object.");
        switch (format)
        {
            case DatasetFormat.Instruction:
                InstructionRow instruction = InstructionFile.ReadRow(row, where);
                return Row(Conversation.From(instruction, promptTemplate)) with { Instruction = instruction };
            case DatasetFormat.ShareGpt:
                string? found = Conversations.FirstOrDefault(name => row.TryGetProperty(name, out _));
                return Row(Checked(MessageRows.ReadShareGpt(row, Required(row, found ?? "conversations", where), where), where));
            case DatasetFormat.Messages:
                return Row(Checked(MessageRows.ReadMessages(row, Required(row, "messages", where), where), where));
            case DatasetFormat.PromptCompletion:
                return Row(Checked(ReadCompletion(row, where), where));
            default:
                string text = JsonFields.Text(row, "text", where) ?? throw new DatasetException($"{where}: \"text\" is missing{JsonFields.Hint(row)}.");
                return string.IsNullOrWhiteSpace(text) ? throw new DatasetException($"{where}: \"text\" is empty. Write a document, or remove the row.") : Row(null, text);
        }

        static DatasetRow Row(Conversation? conversation, string? document = null) => new("", 0, 0, conversation, document);
    }

    private static Conversation ReadCompletion(JsonElement row, string where)
    {
        JsonElement prompt = Required(row, "prompt", where);
        string name = Completions.FirstOrDefault(candidate => row.TryGetProperty(candidate, out _)) ?? Completions[0];
        JsonElement completion = Required(row, name, where);
        IReadOnlyList<JsonElement>? tools = MessageRows.ReadTools(row, where);
        List<ChatMessage> messages = Part(prompt, "user");
        // Only the completion is learned, even where the prompt holds earlier answers.
        for (int i = 0; i < messages.Count; i++)
            messages[i] = messages[i] with { IsLearned = false };
        messages.AddRange(Part(completion, "assistant"));
        if (JsonFields.Text(row, "system", where) is { Length: > 0 } system)
            messages.Insert(0, ChatMessage.System(system));
        return new Conversation(messages, tools);

        List<ChatMessage> Part(JsonElement part, string role)
        {
            if (part.ValueKind == JsonValueKind.Array)
                return [.. MessageRows.ReadList(part, where)];
            string text = part.ValueKind == JsonValueKind.String ? JsonText.String(part)
                : throw new DatasetException($"{where}: \"{(role == "user" ? "prompt" : name)}\" is {JsonFields.Name(part.ValueKind)}, not a text or a list of messages.");
            return string.IsNullOrWhiteSpace(text) ? throw new DatasetException($"{where}: \"{(role == "user" ? "prompt" : name)}\" is empty. Write something, or remove the row.") : [new ChatMessage(role, text)];
        }
    }

    private static JsonElement Required(JsonElement row, string name, string where) =>
        row.TryGetProperty(name, out JsonElement value) && value.ValueKind != JsonValueKind.Null ? value : throw new DatasetException($"{where}: \"{name}\" is missing{JsonFields.Hint(row)}.");

    /// <summary>The conversation, where it has something to learn.</summary>
    /// <exception cref="DatasetException">It has not.</exception>
    internal static Conversation Checked(Conversation conversation, string where)
    {
        if (!conversation.Messages.Any(message => message is { Role: "assistant", IsLearned: true }))
            throw new DatasetException($"{where}: no message of the assistant is there to be learned. Add an answer, or remove the row.");
        return conversation;
    }
}
