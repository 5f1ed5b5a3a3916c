using System.Text.Json;

namespace MLNetLora.Inference;

/// <summary>What an answer has to be, of what requests say about tools and formats, whoever they come from.</summary>
internal sealed record AnswerRule
{
    /// <summary>The descriptions of what may be called, as conversations have them; empty for nothing.</summary>
    public IReadOnlyList<JsonElement> Tools { get; init; } = [];

    /// <summary>Whether the answer is nothing but calls, of which there is at least one.</summary>
    public bool MustCall { get; init; }

    /// <summary>The only tool that a required call may be of; null for any.</summary>
    public string? MustCallTool { get; init; }

    /// <summary>Whether several calls may follow each other.</summary>
    public bool AllowsSeveralCalls { get; init; } = true;

    /// <summary>Whether calls that nobody requires are held to the schemas of their arguments, too.</summary>
    public bool IsStrict { get; init; }

    /// <summary>Whether an answer that does not call is JSON.</summary>
    public bool IsJson { get; init; }

    /// <summary>The schema of that JSON; null for any object.</summary>
    public string? Schema { get; init; }

    /// <summary>
    /// Has answers held to it: by a constraint, or, where all that it says is that there is one call at most, by ending behind that. What says nothing leaves
    /// the options as they are.
    /// </summary>
    /// <param name="options">The options of a request, which are changed.</param>
    /// <exception cref="ConstraintException">A schema is wrong, or asks for what cannot be held to.</exception>
    public void Hold(GenerationOptions options)
    {
        options.Constraint = Constraint() ?? options.Constraint;
        options.EndsWithCall = Tools.Count > 0 && !AllowsSeveralCalls && options.Constraint is null;
    }

    private OutputConstraint? Constraint()
    {
        bool calls = Tools.Count > 0;
        return calls && MustCall ? OutputConstraint.ToolCalls(Tools, required: true, MustCallTool, AllowsSeveralCalls)
            : calls && IsJson ? OutputConstraint.ToolCallsOrJson(Tools, AllowsSeveralCalls, Schema)
            : calls && IsStrict ? OutputConstraint.ToolCalls(Tools, required: false, name: null, AllowsSeveralCalls)
            : !IsJson ? null
            : Schema is null ? OutputConstraint.JsonObject
            : OutputConstraint.JsonSchema(Schema);
    }
}
