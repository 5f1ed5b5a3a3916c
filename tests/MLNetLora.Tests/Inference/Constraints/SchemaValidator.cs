extern alias JsonSchemaNet;

using System.Text.Json;
using System.Text.Json.Nodes;
using JsonSchemaNet::Json.Schema;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Somebody else's opinion on what a JSON schema says.</summary>
internal static class SchemaValidator
{
    /// <summary>What is wrong with a value; null where it satisfies the schema.</summary>
    public static string? Error(string schema, string value)
    {
        using JsonDocument document = JsonDocument.Parse(value);
        JsonNode rules = JsonNode.Parse(schema)!;
        SpellLengths(rules);
        JsonSchema parsed = JsonSchema.FromText(rules.ToJsonString());
        EvaluationOptions options = new() { OutputFormat = OutputFormat.List, RequireFormatValidation = true };
        EvaluationResults results = parsed.Evaluate(document.RootElement, options);
        return results.IsValid ? null : JsonSerializer.Serialize(results);
    }

    // The package counts what a reader sees as one character; the standard, Unicode's characters.
    private static void SpellLengths(JsonNode? node)
    {
        if (node is JsonArray array)
        {
            array.ToList().ForEach(SpellLengths);
        }
        else if (node is JsonObject schema)
        {
            schema.Select(keyword => keyword.Value).ToList().ForEach(SpellLengths);
            if (schema["minLength"] is JsonValue || schema["maxLength"] is JsonValue)
            {
                const string Character = @"(?:[^\uD800-\uDFFF]|[\uD800-\uDBFF][\uDC00-\uDFFF])";
                string pattern = $"^{Character}{{{schema["minLength"] ?? 0},{schema["maxLength"]}}}(?![\\s\\S])";
                schema.Remove("minLength");
                schema.Remove("maxLength");
                schema["allOf"] = new JsonArray(new JsonObject { ["pattern"] = pattern });
            }
        }
    }
}
