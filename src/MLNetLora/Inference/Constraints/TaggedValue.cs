using System.Text.Json;

namespace MLNetLora.Inference.Constraints;

/// <summary>
/// How the value of a parameter is written that stands between tags: a text as it is, without quotes, and everything else as JSON. Which of them it is, its
/// schema says, for who writes it and for who reads it.
/// </summary>
internal static class TaggedValue
{
    private const int MostSchemas = 100; // that are looked at for one value; they may refer to each other in many ways

    /// <summary>The schema of a parameter; null where there is none.</summary>
    /// <param name="schema">The schema of all parameters.</param>
    /// <param name="name">The parameter's name.</param>
    public static JsonElement? Schema(JsonElement schema, string name) => schema.ValueKind == JsonValueKind.Object
        && schema.TryGetProperty("properties", out JsonElement properties) && properties.ValueKind == JsonValueKind.Object
        && properties.TryGetProperty(name, out JsonElement found) && found.ValueKind == JsonValueKind.Object
        ? found
        : null;

    /// <summary>Whether a schema says that a value may be of a type; one that says nothing of types does not.</summary>
    /// <param name="root">The schema of all parameters, in which references are looked for.</param>
    /// <param name="schema">The parameter's; null for none.</param>
    /// <param name="type">The type.</param>
    public static bool Names(JsonElement root, JsonElement? schema, JsonTypes type)
    {
        Queue<JsonElement> schemas = new(schema is { } first ? [first] : []);
        for (int i = 0; i < MostSchemas && schemas.TryDequeue(out JsonElement next); i++)
        {
            if (next.ValueKind == JsonValueKind.Object && Names(root, next, type, schemas))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Whether a schema itself says so; those that it combines are added to the others.</summary>
    private static bool Names(JsonElement root, JsonElement schema, JsonTypes type, Queue<JsonElement> others)
    {
        if (schema.TryGetProperty("type", out JsonElement types))
        {
            return types.ValueKind == JsonValueKind.Array ? types.EnumerateArray().Any(Is) : Is(types);
        }

        if (schema.TryGetProperty("const", out JsonElement value))
        {
            return SchemaCompiler.TypeOf(value) == type;
        }

        if (schema.TryGetProperty("enum", out JsonElement values) && values.ValueKind == JsonValueKind.Array)
        {
            return values.EnumerateArray().Any(one => SchemaCompiler.TypeOf(one) == type);
        }

        if (schema.TryGetProperty("$ref", out JsonElement reference) && Find(root, reference) is { } found)
        {
            others.Enqueue(found);
        }

        foreach (string keyword in (string[])["anyOf", "oneOf", "allOf"])
        {
            if (schema.TryGetProperty(keyword, out JsonElement parts) && parts.ValueKind == JsonValueKind.Array)
            {
                foreach (JsonElement part in parts.EnumerateArray().Take(MostSchemas))
                {
                    others.Enqueue(part);
                }
            }
        }

        return false;

        bool Is(JsonElement name) => name.ValueKind == JsonValueKind.String && name.ValueEquals(type == JsonTypes.Null ? "null" : "string");
    }

    private static JsonElement? Find(JsonElement root, JsonElement reference)
    {
        if (reference.ValueKind != JsonValueKind.String || reference.GetString() is not ['#', ..] pointer)
        {
            return null;
        }

        JsonElement at = root;
        foreach (string part in Uri.UnescapeDataString(pointer).Split('/').Skip(1))
        {
            string name = part.Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            if (at.ValueKind != JsonValueKind.Object || !at.TryGetProperty(name, out at))
            {
                return null;
            }
        }

        return at;
    }
}
