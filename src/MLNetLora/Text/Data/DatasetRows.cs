using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>Reads the rows of the formats that data sets come in.</summary>
internal static class DatasetRows
{
    /// <summary>Reads one row; where it stands is for the caller to fill in.</summary>
    /// <param name="row">The row.</param>
    /// <param name="format">Its format; <see cref="DatasetFormat.Recognize"/> is replaced with the one that its fields show.</param>
    /// <param name="promptTemplate">What the user's message of instruction rows is made of.</param>
    /// <param name="where">File, line and row, for messages.</param>
    /// <param name="asks">Whether it is a question, whose answer may be missing.</param>
    /// <exception cref="DatasetException">A field is missing or has the wrong type.</exception>
    public static DatasetRow Read(JsonElement row, ref DatasetFormat format, string? promptTemplate, string where, bool asks = false)
    {
        if (row.ValueKind != JsonValueKind.Object)
        {
            throw new DatasetException(
                $"{where}: the row is {JsonFields.Name(row.ValueKind)}, not an object such as {{\"instruction\": \"…\", \"output\": \"…\"}}.");
        }

        if (format == DatasetFormat.Recognize)
        {
            format = DatasetFields.Recognize(row, where, asks);
        }

        switch (format)
        {
            case DatasetFormat.Instruction:
                InstructionRow instruction = ReadInstruction(row, where, asks);
                return Row(Conversation.From(instruction, promptTemplate)) with { Instruction = instruction };
            case DatasetFormat.ShareGpt:
                return Row(Checked(MessageRows.ReadShareGpt(row, Required(row, DatasetFields.Conversations, where), where), where, asks));
            case DatasetFormat.Messages:
                return Row(Checked(MessageRows.ReadMessages(row, Required(row, DatasetFields.Messages, where), where), where, asks));
            case DatasetFormat.PromptCompletion:
                return Row(Checked(ReadCompletion(row, where, asks), where, asks));
            default:
                string text = Text(row, DatasetFields.Text, where) ?? throw Missing(row, DatasetFields.Text, where);
                return string.IsNullOrWhiteSpace(text)
                    ? throw new DatasetException($"{where}: \"text\" is empty. Write a document, or remove the row.")
                    : Row(null, text);
        }

        static DatasetRow Row(Conversation? conversation, string? document = null) => new("", 0, 0, conversation, document);
    }

    /// <summary>Earlier turns, [[question, answer], …]; null where there are none.</summary>
    /// <exception cref="DatasetException">It is something else.</exception>
    public static List<InstructionTurn>? ReadHistory(JsonElement history, string where)
    {
        if (history.ValueKind == JsonValueKind.Null)
        {
            return null;
        }

        if (history.ValueKind != JsonValueKind.Array)
        {
            throw new DatasetException($"{where}: \"history\" is {JsonFields.Name(history.ValueKind)}, not an array of [question, answer] pairs.");
        }

        List<InstructionTurn> turns = [];
        foreach (JsonElement turn in history.EnumerateArray())
        {
            JsonElement[] pair = turn.ValueKind == JsonValueKind.Array ? [.. turn.EnumerateArray()] : [];
            if (pair is not [{ ValueKind: JsonValueKind.String } question, { ValueKind: JsonValueKind.String } answer])
            {
                throw new DatasetException($"{where}: turn {turns.Count + 1} of \"history\" is not a pair of texts, [question, answer].");
            }

            turns.Add(new InstructionTurn(JsonText.String(question), JsonText.String(answer)));
        }

        return turns.Count == 0 ? null : turns;
    }

    /// <summary>The conversation, where it has something to learn.</summary>
    /// <exception cref="DatasetException">It has not.</exception>
    public static Conversation Checked(Conversation conversation, string where, bool asks = false)
    {
        if (!asks && !conversation.Messages.Any(message => message is { Role: "assistant", IsLearned: true }))
        {
            throw new DatasetException($"{where}: no message of the assistant is there to be learned. Add an answer, or remove the row.");
        }

        return conversation;
    }

    private static InstructionRow ReadInstruction(JsonElement row, string where, bool asks)
    {
        string? instruction = Text(row, DatasetFields.Instruction, where);
        string? input = Text(row, DatasetFields.Input, where);
        string? output = Text(row, DatasetFields.Output, where);
        if (instruction is null && output is not null && !string.IsNullOrWhiteSpace(input))
        {
            (instruction, input) = (input, null); // input and output: what is asked, and its answer.
        }

        if (instruction is null)
        {
            throw Missing(row, DatasetFields.Instruction, where);
        }

        if (string.IsNullOrWhiteSpace(instruction) && string.IsNullOrWhiteSpace(input))
        {
            throw new DatasetException($"{where}: \"instruction\" and \"input\" are both empty. Write what is asked, or remove the row.");
        }

        if (asks)
        {
            output = string.IsNullOrWhiteSpace(output) ? null : output;
        }
        else if (output is null)
        {
            throw Missing(row, DatasetFields.Output, where, " Write the answer to learn, or remove the row.");
        }
        else if (string.IsNullOrWhiteSpace(output))
        {
            throw new DatasetException($"{where}: \"output\" is empty. Write the answer to learn, or remove the row.");
        }

        string? system = Text(row, DatasetFields.System, where);
        List<InstructionTurn>? history = row.TryGetProperty(DatasetFields.History[0], out JsonElement turns) ? ReadHistory(turns, where) : null;
        return new InstructionRow(instruction, output, string.IsNullOrEmpty(input) ? null : input, string.IsNullOrEmpty(system) ? null : system, history);
    }

    private static Conversation ReadCompletion(JsonElement row, string where, bool asks)
    {
        JsonElement prompt = Required(row, DatasetFields.Prompt, where);
        JsonElement? completion = asks ? null : Required(row, DatasetFields.Completion, where);
        IReadOnlyList<JsonElement>? tools = MessageRows.ReadTools(row, where);
        List<ChatMessage> messages = Part(prompt, "user", "prompt", where);

        // Only the completion is learned, even where the prompt holds earlier answers.
        for (int i = 0; i < messages.Count; i++)
        {
            messages[i] = messages[i] with { IsLearned = false };
        }

        if (completion is { } learned)
        {
            messages.AddRange(Part(learned, "assistant", DatasetFields.Find(row, DatasetFields.Completion, where)!, where));
        }

        if (Text(row, DatasetFields.System, where) is { Length: > 0 } system)
        {
            messages.Insert(0, ChatMessage.System(system));
        }

        return new Conversation(messages, tools);
    }

    private static List<ChatMessage> Part(JsonElement part, string role, string name, string where)
    {
        if (part.ValueKind == JsonValueKind.Array)
        {
            return [.. MessageRows.ReadList(part, where)];
        }

        if (part.ValueKind != JsonValueKind.String)
        {
            throw new DatasetException($"{where}: \"{name}\" is {JsonFields.Name(part.ValueKind)}, not a text or a list of messages.");
        }

        string text = JsonText.String(part);
        return string.IsNullOrWhiteSpace(text)
            ? throw new DatasetException($"{where}: \"{name}\" is empty. Write something, or remove the row.")
            : [new ChatMessage(role, text)];
    }

    private static string? Text(JsonElement row, string[] names, string where) =>
        DatasetFields.Find(row, names, where) is { } name ? JsonFields.Text(row, name, where) : null;

    private static JsonElement Required(JsonElement row, string[] names, string where) =>
        DatasetFields.Find(row, names, where) is { } name && row.GetProperty(name) is { ValueKind: not JsonValueKind.Null } value
            ? value
            : throw Missing(row, names, where);

    private static DatasetException Missing(JsonElement row, string[] names, string where, string advice = "") =>
        new($"{where}: \"{names[0]}\" is missing{JsonFields.Hint(row)}.{advice}");
}
