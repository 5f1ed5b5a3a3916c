using System.Globalization;
using System.Numerics;
using System.Text.Json;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Checks of fields; what is wrong is an error 400 that names the field.</summary>
internal static class Field
{
    /// <summary>A number in a range, or null.</summary>
    /// <param name="name">The field.</param>
    /// <param name="value">Its value.</param>
    /// <param name="least">The least that is allowed.</param>
    /// <param name="most">The most.</param>
    public static T? Between<T>(string name, T? value, T least, T most)
        where T : struct, INumber<T> => value is not { } given || (given >= least && given <= most)
            ? value
            : throw Invalid(name, string.Create(CultureInfo.InvariantCulture, $"'{name}' is {given}; it must be between {least} and {most}."));

    /// <summary>A text that must be there.</summary>
    public static string Required(string name, string? value) => Required<string>(name, value) is { Length: > 0 } text
        ? text
        : throw Invalid(name, $"'{name}' is empty.");

    /// <summary>Something that must be there.</summary>
    public static T Required<T>(string name, T? value)
        where T : class => value ?? throw new ApiException(ApiError.Missing(name));

    /// <summary>Throws where JSON that is kept as it is has half a character in a string: nobody could read it later.</summary>
    public static void RequireText(JsonElement value, string name) =>
        Require(IsText(value), name, $"'{name}' holds a string with half a character (a surrogate without its partner).");

    /// <summary>Whether all strings in JSON, and all names, are whole characters.</summary>
    public static bool IsText(JsonElement value)
    {
        try
        {
            Walk(value);
            return true;
        }
        catch (InvalidOperationException)
        {
            return false;
        }

        static void Walk(JsonElement value)
        {
            switch (value.ValueKind)
            {
                case JsonValueKind.String:
                    _ = value.GetString();
                    break;
                case JsonValueKind.Array:
                    foreach (JsonElement item in value.EnumerateArray())
                    {
                        Walk(item);
                    }

                    break;
                case JsonValueKind.Object:
                    foreach (JsonProperty property in value.EnumerateObject())
                    {
                        _ = property.Name;
                        Walk(property.Value);
                    }

                    break;
            }
        }
    }

    /// <summary>Throws where something does not hold.</summary>
    public static void Require(bool holds, string name, string message)
    {
        if (!holds)
        {
            throw Invalid(name, message);
        }
    }

    /// <summary>A field has a value that cannot be.</summary>
    public static ApiException Invalid(string name, string message) => new(ApiError.InvalidValue(name, message));

    /// <summary>A field, or its value, has a meaning that is not served.</summary>
    public static ApiException Unsupported(string name, string message) => new(ApiError.Unsupported(name, message));
}
