using System.Text.Json;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What an answer has to be, as response_format says it.</summary>
internal static class AnswerFormat
{
    private const string Name = "response_format";

    /// <summary>Reads response_format. A schema is held to whether it says strict or not.</summary>
    /// <param name="format">The field; null for none.</param>
    /// <param name="rule">What answers are held to otherwise.</param>
    /// <param name="ignoreUnknown">Whether fields that nobody knows are passed over.</param>
    /// <returns>The rule, with what the format says.</returns>
    /// <exception cref="ApiException">It is something else, or a schema that cannot be held to.</exception>
    public static AnswerRule Read(ResponseFormat? format, AnswerRule rule, bool ignoreUnknown)
    {
        if (format is null)
        {
            return rule;
        }

        OtherFields.Require(format, $"{Name}.", ignoreUnknown);
        string type = Field.Required($"{Name}.type", format.Type);
        Field.Require(
            type == "json_schema" || format.JsonSchema is null, $"{Name}.json_schema", $"'{Name}.json_schema' is given, but '{Name}.type' is not json_schema.");
        return type switch
        {
            "text" => rule,
            "json_object" => rule with { IsJson = true },
            "json_schema" => rule with { IsJson = true, Schema = Schema(Field.Required($"{Name}.json_schema", format.JsonSchema), ignoreUnknown) },
            _ => throw Field.Invalid($"{Name}.type", $"'{Name}.type' is '{ApiError.Shown(type)}'; it must be text, json_object or json_schema."),
        };
    }

    private static string Schema(JsonSchemaFormat format, bool ignoreUnknown)
    {
        OtherFields.Require(format, $"{Name}.json_schema.", ignoreUnknown);
        Field.Required($"{Name}.json_schema.name", format.Name);
        const string name = $"{Name}.json_schema.schema";
        if (format.Schema is not { ValueKind: not JsonValueKind.Null } schema)
        {
            throw new ApiException(ApiError.Missing(name));
        }

        Field.RequireText(schema, name);
        try
        {
            string text = schema.GetRawText();
            _ = OutputConstraint.JsonSchema(text);
            return text;
        }
        catch (ConstraintException error)
        {
            throw Field.Invalid(name, $"'{name}' cannot be held to: {error.Message}");
        }
    }
}
