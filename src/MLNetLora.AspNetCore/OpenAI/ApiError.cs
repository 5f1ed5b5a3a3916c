using Microsoft.AspNetCore.Http;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Ends a request with an error.</summary>
/// <param name="error">What the client gets.</param>
internal sealed class ApiException(ServingError error) : Exception(error.Message)
{
    /// <summary>What the client gets.</summary>
    public ServingError Error => error;
}

/// <summary>What clients are told of their requests, and of what was thrown.</summary>
internal static class ApiError
{
    private const string LibraryAdvice = ", or set WhenPromptTooLong"; // an option that a client does not have

    /// <summary>A field has a value that cannot be.</summary>
    public static ServingError InvalidValue(string param, string message) => ServingError.Invalid(message, param, "invalid_value");

    /// <summary>A field has a value of another type.</summary>
    public static ServingError InvalidType(string? param, string message) => ServingError.Invalid(message, param, "invalid_type");

    /// <summary>The body cannot be read.</summary>
    public static ServingError InvalidJson(string message) => ServingError.Invalid(message, null, "invalid_json");

    /// <summary>A field is missing.</summary>
    public static ServingError Missing(string param) => ServingError.Invalid($"'{param}' is missing.", param, "missing_required_parameter");

    /// <summary>A field that nobody knows.</summary>
    public static ServingError Unknown(string param) =>
        ServingError.Invalid($"Unknown field: '{param}'. Take it out, or correct its name.", param, "unknown_parameter");

    /// <summary>A field, or a value of it, that has a meaning which is not served here.</summary>
    public static ServingError Unsupported(string param, string message) => ServingError.Invalid(message, param, "unsupported_parameter");

    /// <summary>No model of the name; OpenAI calls the request wrong, not the model missing.</summary>
    public static ServingError ModelNotFound(string name) =>
        ServingError.Invalid($"The model '{Shown(name)}' is not served here. GET /v1/models lists those that are.", "model", "model_not_found")
            with
        { Status = StatusCodes.Status404NotFound };

    /// <summary>What a client is told of an exception; null where it is the service's fault, and told as such.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="prompt">The field that the prompt came in.</param>
    public static ServingError? Of(Exception exception, string? prompt) => exception switch
    {
        ApiException known => known.Error,
        PromptException => ServingError.Invalid($"{exception.Message.Split(LibraryAdvice)[0].TrimEnd('.')}.", prompt, "context_length_exceeded"),
        TemplateException => ServingError.Invalid(exception.Message, prompt, "invalid_prompt"),
        OptionException or ConstraintException => ServingError.Invalid(exception.Message, null, "invalid_value"),
        NativeMemoryException => ServingError.OutOfMemory,
        ObjectDisposedException => ServingError.Unavailable("The model is being unloaded. Send the request again later.", "model_unloaded", 1),
        _ => null,
    };

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
