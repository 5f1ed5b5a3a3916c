using Microsoft.AspNetCore.Http;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What went wrong with a request, as clients of OpenAI's API read it.</summary>
/// <param name="Status">The HTTP status.</param>
/// <param name="Type">The kind of error: one of <see cref="ApiErrorTypes"/>.</param>
/// <param name="Message">What was wrong and what to do, for people.</param>
/// <param name="Param">The field of the request that was wrong, such as <c>messages[0].role</c>; null where it was no field.</param>
/// <param name="Code">What programs look at; null for none.</param>
internal sealed record ApiError(int Status, string Type, string Message, string? Param = null, string? Code = null)
{
    /// <summary>Seconds after which the client may try again; null where it is of no use.</summary>
    public int? RetryAfterSeconds { get; init; }

    /// <summary>A field has a value that cannot be.</summary>
    public static ApiError InvalidValue(string param, string message) => BadRequest(param, message, "invalid_value");

    /// <summary>A field has a value of another type.</summary>
    public static ApiError InvalidType(string? param, string message) => BadRequest(param, message, "invalid_type");

    /// <summary>A field is missing.</summary>
    public static ApiError Missing(string param, string message) => BadRequest(param, message, "missing_required_parameter");

    /// <summary>A field that nobody knows.</summary>
    public static ApiError Unknown(string param) => BadRequest(param, $"Unknown field: '{param}'. Take it out, or correct its name.", "unknown_parameter");

    /// <summary>A field, or a value of it, that has a meaning which is not served here.</summary>
    public static ApiError Unsupported(string param, string message) => BadRequest(param, message, "unsupported_parameter");

    /// <summary>No model of the name.</summary>
    public static ApiError ModelNotFound(string name) => new(
        StatusCodes.Status404NotFound,
        ApiErrorTypes.InvalidRequest,
        $"The model '{Shown(name)}' is not served here. GET /v1/models lists those that are.",
        "model",
        "model_not_found");

    /// <summary>The request as a whole, or one of its fields, is wrong.</summary>
    public static ApiError BadRequest(string? param, string message, string? code) =>
        new(StatusCodes.Status400BadRequest, ApiErrorTypes.InvalidRequest, message, param, code);

    /// <summary>A client's own text for a message: not more than a line of it.</summary>
    public static string Shown(string text)
    {
        const int most = 100;
        int length = text.Length <= most ? text.Length : char.IsHighSurrogate(text[most - 1]) ? most - 1 : most;
        string shown = string.Create(length, text, (span, from) =>
        {
            for (int i = 0; i < span.Length; i++)
            {
                span[i] = char.IsControl(from[i]) ? ' ' : from[i];
            }
        });
        return length < text.Length ? $"{shown}…" : shown;
    }
}

/// <summary>The kinds of errors that clients know.</summary>
internal static class ApiErrorTypes
{
    public const string InvalidRequest = "invalid_request_error";
    public const string Server = "server_error";
    public const string Unavailable = "unavailable_error";
}

/// <summary>Ends a request with an error.</summary>
/// <param name="error">What the client gets.</param>
internal sealed class ApiException(ApiError error) : Exception(error.Message)
{
    /// <summary>What the client gets.</summary>
    public ApiError Error => error;
}
