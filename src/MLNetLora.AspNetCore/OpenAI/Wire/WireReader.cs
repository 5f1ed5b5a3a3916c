using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Reads the JSON of a request; what is wrong with it is said by field.</summary>
internal static class WireReader
{
    /// <summary>Reads an object.</summary>
    /// <param name="body">UTF-8.</param>
    /// <param name="type">What it is.</param>
    /// <exception cref="ApiException">It is not JSON, or something else.</exception>
    public static T Read<T>(ReadOnlySpan<byte> body, JsonTypeInfo<T> type)
        where T : class
    {
        if (!System.Text.Unicode.Utf8.IsValid(body))
        {
            throw new ApiException(ApiError.InvalidJson("The body is not valid UTF-8."));
        }

        try
        {
            return JsonSerializer.Deserialize(body, type)
                ?? throw new ApiException(ApiError.InvalidType(null, "The body is null; it must be a JSON object."));
        }
        catch (JsonException error)
        {
            throw new ApiException(Explain(error, type, ""));
        }
    }

    /// <summary>What is wrong.</summary>
    /// <param name="error">What the reader says.</param>
    /// <param name="type">What was read.</param>
    /// <param name="where">Where it stands in the body; empty for the body itself.</param>
    private static ServingError Explain(JsonException error, JsonTypeInfo type, string where)
    {
        if (error is WirePartException part)
        {
            string item = string.Create(CultureInfo.InvariantCulture, $"{Field(error, where)}[{part.Index}]");
            return Explain(part.Error, part.Type, item);
        }

        if (error.InnerException is JsonException || error.Path is null)
        {
            string place = string.Create(CultureInfo.InvariantCulture, $"line {error.LineNumber + 1}, byte {error.BytePositionInLine + 1}");
            return ApiError.InvalidJson($"The body is not valid JSON, or nested deeper than {type.Options.MaxDepth}: see {place}.");
        }

        string field = Field(error, where);
        if (error.Message.StartsWith("Duplicate", StringComparison.Ordinal))
        {
            string twice = ApiError.Shown(field);
            return ServingError.Invalid($"The field '{twice}' is given twice; which one is meant?", twice, "duplicate_parameter");
        }

        bool isHalf = error.InnerException?.Message.Contains("UTF-16", StringComparison.Ordinal) == true; // the reader has no type for it
        string expected = isHalf ? "a text without half of a surrogate pair (\\uD83D without \\uDE00)"
            : (error as WireTypeException)?.Expected ?? Expected(error.Path, type);
        return field.Length == 0
            ? ApiError.InvalidType(null, $"The body must be {expected}.")
            : ApiError.InvalidType(ApiError.Shown(field), $"Invalid type or value of '{ApiError.Shown(field)}': it must be {expected}.");
    }

    private static string Field(JsonException error, string where)
    {
        string path = (error.Path ?? "").TrimStart('$');
        return where.Length > 0 ? where + path : path.TrimStart('.');
    }

    /// <summary>What stands at a path, in words.</summary>
    private static string Expected(string path, JsonTypeInfo type)
    {
        JsonTypeInfo? at = type;
        foreach (string step in path.Split('.', '[', ']').Skip(1).Where(step => step.Length > 0))
        {
            Type? next = at is null ? null
                : at.Kind == JsonTypeInfoKind.Object ? at.Properties.FirstOrDefault(property => property.Name == step)?.PropertyType
                : at.ElementType;
            at = next is null ? null : type.Options.GetTypeInfo(next);
        }

        return at switch
        {
            null => "what its field holds",
            { Kind: JsonTypeInfoKind.Object or JsonTypeInfoKind.Dictionary } => "an object",
            { Kind: JsonTypeInfoKind.Enumerable } => "an array",
            _ when Is<string>(at.Type) => "a string",
            _ when Is<bool>(at.Type) => "true or false",
            _ when Is<int>(at.Type) || Is<long>(at.Type) => "an integer",
            _ when Is<double>(at.Type) => "a number",
            _ => "what its field holds",
        };
    }

    private static bool Is<T>(Type type) => (Nullable.GetUnderlyingType(type) ?? type) == typeof(T);
}
