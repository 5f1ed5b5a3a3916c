extern alias JsonSchemaNet;

using System.Text.Json;
using JsonSchemaNet::Json.Schema;

namespace MLNetLora.Tests.Inference.Constraints;

/// <summary>Somebody else's opinion on what a JSON schema says.</summary>
internal static class SchemaValidator
{
    /// <summary>What is wrong with a value; null where it satisfies the schema.</summary>
    public static string? Error(string schema, string value)
    {
        using JsonDocument document = JsonDocument.Parse(value);
        JsonSchema parsed = JsonSchema.FromText(schema);
        EvaluationResults results = parsed.Evaluate(document.RootElement, new EvaluationOptions { OutputFormat = OutputFormat.List, RequireFormatValidation = true });
        return results.IsValid ? null : JsonSerializer.Serialize(results);
    }
}
