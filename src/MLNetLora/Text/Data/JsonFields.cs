using System.Text.Json;

namespace MLNetLora.Text;

/// <summary>Fields of a data set's row, with messages that say what is there instead.</summary>
internal static class JsonFields
{
    /// <summary>A text field; null where it is missing or null.</summary>
    /// <exception cref="DatasetException">It is something else.</exception>
    public static string? Text(JsonElement row, string name, string where)
    {
        if (!row.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null)
            return null;
        return value.ValueKind == JsonValueKind.String ? JsonText.String(value) : throw new DatasetException($"{where}: \"{name}\" is {Name(value.ValueKind)}, not a text. Put it in quotation marks.");
    }

    /// <summary>What the row has instead: a misspelled or foreign field is the usual cause.</summary>
    public static string Hint(JsonElement row)
    {
        string[] names = [.. row.EnumerateObject().Select(field => field.Name).Take(8)];
        return names.Length == 0 ? "; the row is empty" : $"; the row has {string.Join(", ", names.Select(name => $"\"{name}\""))}";
    }

    /// <summary>A kind of value as messages call it.</summary>
    public static string Name(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "an array",
        JsonValueKind.String => "a text",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "true or false",
        _ => "null",
    };
}
