using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>A row to learn or to ask: one of an instruction with its parts, a conversation, or a document.</summary>
/// <param name="Instruction">The instruction row, before any prompt template.</param>
/// <param name="Conversation">The conversation.</param>
/// <param name="Document">The document, which is learned whole.</param>
internal sealed record TextRow(InstructionRow? Instruction = null, Conversation? Conversation = null, string? Document = null)
{
    /// <summary>Why it cannot be asked; null where it can. It then has no parts.</summary>
    public DatasetException? Error { get; init; }

    /// <summary>What the template's enable_thinking is for this row alone, where the template reads it; null for what all rows are asked with.</summary>
    public bool? EnableThinking { get; init; }

    /// <summary>Rows that a caller hands over. What the nullable annotations forbid is said here, before anything is answered.</summary>
    /// <exception cref="ArgumentException">A row, or a part that it must have, is null.</exception>
    public static TextRow[] Of(IReadOnlyList<InstructionRow> rows)
    {
        ArgumentNullException.ThrowIfNull(rows);
        return [.. rows.Select((row, i) => Of(row, $"rows[{i}]"))];
    }

    /// <summary>The same for conversations.</summary>
    /// <exception cref="ArgumentException">A conversation, or a part that it must have, is null or has no messages.</exception>
    public static TextRow[] Of(IReadOnlyList<Conversation> conversations)
    {
        ArgumentNullException.ThrowIfNull(conversations);
        return [.. conversations.Select((conversation, i) => Of(conversation, $"conversations[{i}]"))];
    }

    /// <summary>One row.</summary>
    /// <param name="row">The row.</param>
    /// <param name="what">What messages call it.</param>
    /// <exception cref="ArgumentException">It, or a part that it must have, is null.</exception>
    public static TextRow Of(InstructionRow row, string what = "row")
    {
        ArgumentNullException.ThrowIfNull(row, what);
        ArgumentNullException.ThrowIfNull(row.Instruction, $"{what}.Instruction");
        for (int i = 0; i < row.History?.Count; i++)
        {
            ArgumentNullException.ThrowIfNull(row.History[i], $"{what}.History[{i}]");
        }

        return new TextRow(row);
    }

    /// <summary>One conversation.</summary>
    /// <param name="conversation">The conversation.</param>
    /// <param name="what">What messages call it.</param>
    /// <exception cref="ArgumentException">It, or a part that it must have, is null, or it has no messages.</exception>
    public static TextRow Of(Conversation conversation, string what = "conversation")
    {
        ArgumentNullException.ThrowIfNull(conversation, what);
        ArgumentNullException.ThrowIfNull(conversation.Messages, $"{what}.Messages");
        if (conversation.Messages.Count == 0)
        {
            throw new ArgumentException($"{what}.Messages is empty: nobody asks anything.");
        }

        for (int i = 0; i < conversation.Messages.Count; i++)
        {
            ArgumentNullException.ThrowIfNull(conversation.Messages[i], $"{what}.Messages[{i}]");
            ArgumentNullException.ThrowIfNull(conversation.Messages[i].Role, $"{what}.Messages[{i}].Role");
            foreach (ToolCall call in conversation.Messages[i].ToolCalls ?? [])
            {
                ArgumentNullException.ThrowIfNull(call?.Name, $"{what}.Messages[{i}].ToolCalls[…].Name");
                ArgumentNullException.ThrowIfNull(call.Arguments, $"{what}.Messages[{i}].ToolCalls[…].Arguments");
            }
        }

        bool isWhole = conversation.Tools?.All(tool => tool.ValueKind != JsonValueKind.Undefined) != false;
        return isWhole ? new TextRow(Conversation: conversation) : throw new ArgumentException($"{what}.Tools holds a JsonElement without a value.");
    }
}
