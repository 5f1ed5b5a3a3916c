using System.Collections.Frozen;
using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>What the keywords of JSON Schema are to a constraint.</summary>
internal static class SchemaKeywords
{
    private static readonly FrozenSet<string> s_held = new[]
    {
        "type", "enum", "const", "properties", "required", "additionalProperties", "unevaluatedProperties", "minProperties", "maxProperties", "items",
        "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "anyOf", "oneOf", "allOf", "$ref",
    }.ToFrozenSet();

    /// <summary>Keywords that say what is valid in a way that no automaton of ours holds.</summary>
    private static readonly FrozenDictionary<string, string> s_refused = new Dictionary<string, string>
    {
        ["not"] = "say what is allowed",
        ["if"] = "write anyOf with both cases",
        ["then"] = "write anyOf with both cases",
        ["else"] = "write anyOf with both cases",
        ["dependentRequired"] = "write anyOf with both cases",
        ["dependentSchemas"] = "write anyOf with both cases",
        ["dependencies"] = "write anyOf with both cases",
        ["patternProperties"] = "name the properties, or give additionalProperties a schema",
        ["propertyNames"] = "name the properties",
        ["contains"] = "give prefixItems",
        ["minContains"] = "give prefixItems",
        ["maxContains"] = "give prefixItems",
        ["unevaluatedItems"] = "use items",
        ["$dynamicRef"] = "use $ref",
        ["$recursiveRef"] = "use $ref",
    }.ToFrozenDictionary();

    /// <summary>All keywords that say something about what is valid.</summary>
    public static IEnumerable<string> All => s_held.Concat(s_refused.Keys);

    /// <summary>Whether a keyword says nothing about what is valid.</summary>
    public static bool IsAnnotation(string keyword) => !s_held.Contains(keyword) && !s_refused.ContainsKey(keyword);

    /// <summary>Throws where a schema says what cannot be held to.</summary>
    /// <exception cref="ConstraintException">It does.</exception>
    public static void RequireKnown(Schema schema)
    {
        foreach (JsonProperty keyword in schema.Element.EnumerateObject())
        {
            if (s_refused.TryGetValue(keyword.Name, out string? instead))
            {
                throw schema.Refused(keyword.Name, $"cannot be held to; {instead}, or leave it out.");
            }
        }
    }

    /// <summary>A number of a keyword; null where there is none.</summary>
    public static int? Count(Schema schema, string keyword)
    {
        if (!schema.Element.TryGetProperty(keyword, out JsonElement value))
        {
            return null;
        }

        return value.ValueKind == JsonValueKind.Number && value.TryGetDecimal(out decimal number) && number >= 0 && number == decimal.Truncate(number)
            ? (int)Math.Min(number, int.MaxValue - 1)
            : throw schema.Refused(keyword, "must be an integer, 0 or more.");
    }

    /// <summary>A decimal number of a keyword; null where there is none.</summary>
    public static decimal? Number(Schema schema, string keyword)
    {
        if (!schema.Element.TryGetProperty(keyword, out JsonElement value))
        {
            return null;
        }

        if (value.ValueKind != JsonValueKind.Number)
        {
            throw schema.Refused(keyword, "must be a number.");
        }

        return Number(value) ?? (value.GetDouble() < 0 ? decimal.MinValue : decimal.MaxValue);
    }

    /// <summary>A number's value; null where no decimal holds it.</summary>
    public static decimal? Number(JsonElement value) => value.TryGetDecimal(out decimal number) ? number : null;

    /// <summary>Whether a keyword is true; false where it is not there.</summary>
    public static bool Flag(Schema schema, string keyword) => schema.Element.TryGetProperty(keyword, out JsonElement value)
        && (value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw schema.Refused(keyword, "must be true or false."));

    /// <summary>The text of a keyword; null where there is none.</summary>
    public static string? Text(Schema schema, string keyword) => !schema.Element.TryGetProperty(keyword, out JsonElement value)
        ? null
        : value.ValueKind == JsonValueKind.String ? value.GetString() : throw schema.Refused(keyword, "must be a string.");
}
