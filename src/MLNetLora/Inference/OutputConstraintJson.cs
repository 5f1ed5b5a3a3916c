using System.Text.Json;
using System.Text.Json.Serialization;

namespace MLNetLora.Inference;

/// <summary>What a constraint was made of, as a model zip keeps it: one of these is said.</summary>
/// <param name="JsonSchema">The schema's text.</param>
/// <param name="Regex">The expression.</param>
/// <param name="JsonObject">Whether it is any object.</param>
/// <param name="ToolCalls">The tools.</param>
internal sealed record ConstraintSource(
    string? JsonSchema = null, string? Regex = null, bool? JsonObject = null, ConstraintTools? ToolCalls = null)
{
    /// <summary>The constraint.</summary>
    /// <exception cref="JsonException">None of them, or several, are said.</exception>
    /// <exception cref="ConstraintException">What is said cannot be held to.</exception>
    public OutputConstraint Make() => this switch
    {
        { JsonSchema: { } schema, Regex: null, JsonObject: null, ToolCalls: null } => OutputConstraint.JsonSchema(schema),
        { JsonSchema: null, Regex: { } pattern, JsonObject: null, ToolCalls: null } => OutputConstraint.Regex(pattern),
        { JsonSchema: null, Regex: null, JsonObject: true, ToolCalls: null } => OutputConstraint.JsonObject,
        { JsonSchema: null, Regex: null, JsonObject: null, ToolCalls: { } tools } => tools.Make(),
        _ => throw new JsonException("a constraint says one of json_schema, regex, json_object and tool_calls"),
    };
}

/// <summary>Tools that may be called; see <see cref="OutputConstraint.ToolCalls"/>.</summary>
/// <param name="Tools">The text of each description.</param>
/// <param name="Required">Whether nothing but calls is an answer.</param>
/// <param name="Name">The only tool; null for any.</param>
/// <param name="Several">Whether more than one call may follow each other.</param>
internal sealed record ConstraintTools(IReadOnlyList<string> Tools, bool Required, string? Name, bool Several)
{
    /// <summary>The constraint.</summary>
    public OutputConstraint Make() =>
        OutputConstraint.ToolCalls([.. Tools.Select(tool => JsonDocument.Parse(tool).RootElement)], Required, Name, Several);
}

/// <summary>Writes a constraint as its <see cref="ConstraintSource"/>.</summary>
internal sealed class OutputConstraintJson : JsonConverter<OutputConstraint>
{
    /// <inheritdoc/>
    public override OutputConstraint Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        JsonSerializer.Deserialize<ConstraintSource>(ref reader, options)!.Make();

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, OutputConstraint value, JsonSerializerOptions options) =>
        JsonSerializer.Serialize(
            writer, value.Source ?? throw new NotSupportedException("A constraint of a chat client is made anew for each request."), options);
}
