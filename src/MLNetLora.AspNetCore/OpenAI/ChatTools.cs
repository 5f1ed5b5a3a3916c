using System.Text.Encodings.Web;
using System.Text.Json;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What the assistant may call.</summary>
/// <param name="Descriptions">The tools for the chat template; empty for none.</param>
/// <param name="Schemas">The JSON schemas of their parameters by their names.</param>
/// <param name="Choice">Whether it has to.</param>
/// <param name="AllowsSeveral">Whether one answer may have several calls.</param>
/// <param name="IsStrict">Whether the arguments of calls have to be what the schemas say.</param>
internal sealed record ChatTools(
    IReadOnlyList<JsonElement> Descriptions, IReadOnlyDictionary<string, JsonElement> Schemas, ToolChoice Choice, bool AllowsSeveral, bool IsStrict)
{
    private const int MostTools = 128;
    private const int LongestName = 64;

    private static readonly JsonElement s_noParameters = JsonElement.Parse("""{"type":"object","properties":{}}""");

    /// <summary>Reads the tools of a request.</summary>
    /// <param name="body">The request.</param>
    /// <param name="ignoreUnknown">Whether fields that nobody knows are passed over.</param>
    /// <exception cref="ApiException">A tool cannot be.</exception>
    public static ChatTools Read(ChatRequestBody body, bool ignoreUnknown)
    {
        IReadOnlyList<ToolDefinition?> given = body.Tools ?? [];
        Field.Require(given.Count <= MostTools, "tools", $"'tools' has {given.Count} tools; at most {MostTools}.");
        Dictionary<string, JsonElement> schemas = new(StringComparer.Ordinal);
        List<JsonElement> descriptions = [];
        bool isStrict = false;
        for (int i = 0; i < given.Count; i++)
        {
            FunctionDefinition function = Function(given[i], $"tools[{i}]", ignoreUnknown);
            JsonElement parameters = function.Parameters is { ValueKind: not JsonValueKind.Null } schema ? schema : s_noParameters;
            string where = $"tools[{i}].function.name";
            bool isNew = schemas.TryAdd(function.Name!, parameters);
            Field.Require(isNew, where, $"'{where}' is '{function.Name}', as an earlier tool's; a call could not say which.");
            descriptions.Add(Description(function, parameters));
            isStrict |= function.Strict ?? false;
        }

        ToolChoice choice = ToolChoice.Read(body.ToolChoice, schemas);
        bool several = body.ParallelToolCalls ?? true;
        // What may not be called need not be known: the model would call it all the same.
        return choice.Kind == ToolChoiceKind.None
            ? new ChatTools([], new Dictionary<string, JsonElement>(), choice, several, false)
            : new ChatTools(descriptions, schemas, choice, several, isStrict);
    }

    /// <summary>What the tools say of answers.</summary>
    public AnswerRule Rule => new()
    {
        Tools = Descriptions,
        MustCall = Choice.Kind == ToolChoiceKind.Required,
        MustCallTool = Choice.Name,
        AllowsSeveralCalls = AllowsSeveral,
        IsStrict = IsStrict,
    };

    /// <summary>Throws where a model cannot have these tools.</summary>
    /// <param name="generator">The model.</param>
    /// <exception cref="ApiException">Its chat template does not write tools.</exception>
    public void RequireTemplate(TextGenerator generator)
    {
        if (Descriptions.Count > 0 && !generator.TemplateReads("tools"))
        {
            throw Field.Unsupported("tools", "'tools' is given, but this model's chat template does not write them: the model would not see them.");
        }
    }

    private static FunctionDefinition Function(ToolDefinition? given, string where, bool ignoreUnknown)
    {
        ToolDefinition tool = Field.Required(where, given);
        OtherFields.Require(tool, $"{where}.", ignoreUnknown);
        if (Field.Required($"{where}.type", tool.Type) is not "function" and string type)
        {
            throw Field.Unsupported($"{where}.type", $"'{where}.type' is '{ApiError.Shown(type)}'; functions alone can be called.");
        }

        FunctionDefinition function = Field.Required($"{where}.function", tool.Function);
        OtherFields.Require(function, $"{where}.function.", ignoreUnknown);
        string name = Field.Required($"{where}.function.name", function.Name);
        Field.Require(
            name.Length <= LongestName && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-'),
            $"{where}.function.name",
            $"'{where}.function.name' must have at most {LongestName} letters of a to z, digits, _ and -.");
        if (function.Parameters is { } parameters)
        {
            Field.Require(
                parameters.ValueKind is JsonValueKind.Object or JsonValueKind.Null,
                $"{where}.function.parameters",
                $"'{where}.function.parameters' must be a JSON schema: an object.");
            Field.RequireText(parameters, $"{where}.function.parameters");
        }

        return function;
    }

    /// <summary>The tool in the form in which Qwen's templates are trained to see it.</summary>
    private static JsonElement Description(FunctionDefinition function, JsonElement parameters)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("type", "function");
            json.WriteStartObject("function");
            json.WriteString("name", function.Name);
            if (function.Description is not null)
            {
                json.WriteString("description", function.Description);
            }

            json.WritePropertyName("parameters");
            parameters.WriteTo(json);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return JsonElement.Parse(stream.ToArray());
    }
}

/// <summary>Whether the assistant calls tools.</summary>
internal enum ToolChoiceKind
{
    /// <summary>As it likes.</summary>
    Auto,

    /// <summary>Never.</summary>
    None,

    /// <summary>It has to.</summary>
    Required,
}

/// <summary>Whether the assistant has to call a tool, and which.</summary>
/// <param name="Kind">Whether.</param>
/// <param name="Name">Which; null for any.</param>
internal sealed record ToolChoice(ToolChoiceKind Kind, string? Name = null)
{
    /// <summary>Reads tool_choice.</summary>
    /// <param name="given">The field; null for none.</param>
    /// <param name="tools">The tools, by name.</param>
    /// <exception cref="ApiException">It is something else, or calls for a tool that is not there.</exception>
    public static ToolChoice Read(JsonElement? given, IReadOnlyDictionary<string, JsonElement> tools)
    {
        const string field = "tool_choice";
        ToolChoice choice = given switch
        {
            null or { ValueKind: JsonValueKind.Null } => new ToolChoice(ToolChoiceKind.Auto),
            { ValueKind: JsonValueKind.String } word when word.ValueEquals("auto") => new ToolChoice(ToolChoiceKind.Auto),
            { ValueKind: JsonValueKind.String } word when word.ValueEquals("none") => new ToolChoice(ToolChoiceKind.None),
            { ValueKind: JsonValueKind.String } word when word.ValueEquals("required") => new ToolChoice(ToolChoiceKind.Required),
            { ValueKind: JsonValueKind.Object } named when NameOf(named) is { } name => new ToolChoice(ToolChoiceKind.Required, name),
            _ => throw Field.Invalid(
                field, $"'{field}' must be none, auto, required or an object: {{\"type\": \"function\", \"function\": {{\"name\": …}}}}."),
        };
        Field.Require(choice.Kind != ToolChoiceKind.Required || tools.Count > 0, field, $"'{field}' calls for a tool, but 'tools' has none.");
        Field.Require(choice.Name is null || tools.ContainsKey(choice.Name), field, $"'{field}' calls for a tool that 'tools' does not have.");
        return choice;
    }

    private static string? NameOf(JsonElement named)
    {
        Field.RequireText(named, "tool_choice");
        return named.EnumerateObject().All(property => property.Name is "type" or "function")
            && named.TryGetProperty("type", out JsonElement type) && type.ValueKind == JsonValueKind.String && type.ValueEquals("function")
            && named.TryGetProperty("function", out JsonElement function) && function.ValueKind == JsonValueKind.Object
            && function.TryGetProperty("name", out JsonElement name) && name.ValueKind == JsonValueKind.String
            ? name.GetString()
            : null;
    }
}
