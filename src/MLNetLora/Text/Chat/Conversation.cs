using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>A conversation: messages in order, and the tools that the assistant may call.</summary>
/// <param name="Messages">The messages, oldest first.</param>
/// <param name="Tools">
/// The tools' descriptions as JSON, in the form <c>{"type": "function", "function": {"name": …, "description": …, "parameters": …}}</c>; null for none.
/// </param>
public sealed record Conversation(IReadOnlyList<ChatMessage> Messages, IReadOnlyList<JsonElement>? Tools = null)
{
    /// <summary>Surrogates without their partner in all texts of the messages.</summary>
    internal int UnpairedSurrogates =>
        Messages.Sum(message => UnicodeText.UnpairedSurrogates(message.Content) + UnicodeText.UnpairedSurrogates(message.Thinking)
        + (message.ToolCalls?.Sum(call => UnicodeText.UnpairedSurrogates(call.Name) + UnicodeText.UnpairedSurrogates(call.Arguments)) ?? 0));

    /// <summary>
    /// The conversation of an instruction row: its system message, its history, the instruction with its input, and the answer where there is one.
    /// </summary>
    /// <param name="row">The row.</param>
    /// <param name="promptTemplate">
    /// What the user's message is made of; {instruction} and {input} stand for the row's. Null for the instruction and, on a new line, its input.
    /// </param>
    public static Conversation From(InstructionRow row, string? promptTemplate = null)
    {
        TextRow.Of(row); // its parts are not null
        List<ChatMessage> messages = [];
        if (!string.IsNullOrEmpty(row.System))
        {
            messages.Add(ChatMessage.System(row.System));
        }

        foreach (InstructionTurn turn in row.History ?? [])
        {
            messages.Add(ChatMessage.User(turn.Instruction));
            messages.Add(ChatMessage.Assistant(turn.Output));
        }

        messages.Add(ChatMessage.User(PromptTemplate.Fill(row, promptTemplate)));
        if (row.Output is not null)
        {
            messages.Add(ChatMessage.Assistant(row.Output));
        }

        return new Conversation(messages);
    }

    /// <summary>
    /// The conversation up to every assistant's message in turn, each ending with it: what the model sees and says when that answer is asked of it.
    /// </summary>
    /// <returns>One conversation per assistant's message that may be learned.</returns>
    public IEnumerable<Conversation> PerAnswer()
    {
        TextRow.Of(this); // its parts are not null
        for (int i = 0; i < Messages.Count; i++)
        {
            if (Messages[i] is { Role: "assistant", IsLearned: true })
            {
                yield return this with { Messages = [.. Messages.Take(i + 1)] };
            }
        }
    }
}
