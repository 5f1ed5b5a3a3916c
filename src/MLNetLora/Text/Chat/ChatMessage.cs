namespace MLNetLora.Text;

/// <summary>One message of a conversation.</summary>
/// <param name="Role">Who speaks: system, user, assistant or tool.</param>
/// <param name="Content">What is said; null or empty for an assistant's message that only calls tools.</param>
public sealed record ChatMessage(string Role, string? Content)
{
    /// <summary>What the assistant thought before it answered: reasoning_content of the templates. Null where none is given apart from the content.</summary>
    public string? Thinking { get; init; }

    /// <summary>The tools that the assistant calls; null or empty for none.</summary>
    public IReadOnlyList<ToolCall>? ToolCalls { get; init; }

    /// <summary>The name of a participant or tool; null where it is not said.</summary>
    public string? Name { get; init; }

    /// <summary>Which call a tool's message answers; null where it is not said.</summary>
    public string? ToolCallId { get; init; }

    /// <summary>Whether an assistant's message may be learned: false for answers that only stand there as context (weight 0 in OpenAI's format).</summary>
    public bool IsLearned { get; init; } = true;

    /// <summary>A system message.</summary>
    public static ChatMessage System(string content) => new("system", content);

    /// <summary>A user's message.</summary>
    public static ChatMessage User(string content) => new("user", content);

    /// <summary>An assistant's message.</summary>
    public static ChatMessage Assistant(string content, string? thinking = null) => new("assistant", content) { Thinking = thinking };

    /// <summary>What a tool gave back.</summary>
    public static ChatMessage Tool(string content) => new("tool", content);
}

/// <summary>A call of a tool.</summary>
/// <param name="Name">The tool.</param>
/// <param name="Arguments">
/// Its arguments as the JSON of an object, such as <c>{"city": "Paris"}</c>; text that is not JSON is given to the template as it is.
/// </param>
/// <param name="Id">The call's id, where there is one.</param>
public sealed record ToolCall(string Name, string Arguments, string? Id = null);
