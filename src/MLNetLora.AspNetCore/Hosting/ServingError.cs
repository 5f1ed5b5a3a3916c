using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using Microsoft.AspNetCore.Http;

namespace MLNetLora.AspNetCore;

/// <summary>An answer that is an error, in OpenAI's form: {"error": {"message", "type", "param", "code"}}.</summary>
/// <param name="Status">Of HTTP.</param>
/// <param name="Message">What was wrong and what to do, for people.</param>
/// <param name="Type">OpenAI's kind of error, such as invalid_request_error.</param>
/// <param name="Code">A word that programs compare; null for none.</param>
/// <param name="Param">The field of the request that was wrong; null for none.</param>
internal sealed record ServingError(int Status, string Message, string Type, string? Code = null, string? Param = null)
{
    private static readonly JsonSerializerOptions s_json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.Never, // clients read null of param and code
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, // it says that it is JSON, and people read it
    };

    /// <summary>After how many seconds asking again may help; null where it does not.</summary>
    public int? RetryAfter { get; init; }

    /// <summary>The request is wrong, and stays so.</summary>
    public static ServingError Invalid(string message, string? param = null, string? code = null) =>
        new(StatusCodes.Status400BadRequest, message, "invalid_request_error", code, param);

    /// <summary>What was asked for is not there.</summary>
    public static ServingError NotFound(string message, string? param = null, string? code = null) =>
        new(StatusCodes.Status404NotFound, message, "not_found_error", code, param);

    /// <summary>No key, or a wrong one.</summary>
    public static ServingError Unauthorized(string message) =>
        new(StatusCodes.Status401Unauthorized, message, "authentication_error", "invalid_api_key");

    /// <summary>More requests than the service takes.</summary>
    public static ServingError TooMany(string message, string code, int retryAfter) =>
        new(StatusCodes.Status429TooManyRequests, message, "rate_limit_error", code) { RetryAfter = retryAfter };

    /// <summary>The service does not answer now, and will later, here or in another replica.</summary>
    public static ServingError Unavailable(string message, string code, int retryAfter) =>
        new(StatusCodes.Status503ServiceUnavailable, message, "unavailable_error", code) { RetryAfter = retryAfter };

    /// <summary>There is too little memory for this request, and may be enough when others have ended.</summary>
    public static ServingError OutOfMemory { get; } = Unavailable(
        "There is too little memory for this request now. Send it again later, or a shorter one.", "out_of_memory", 1);

    /// <summary>The body has more bytes than it may.</summary>
    public static ServingError TooLarge(long mostBytes) => new(
        StatusCodes.Status413PayloadTooLarge,
        string.Create(CultureInfo.InvariantCulture, $"The request's body has more than {mostBytes} bytes, which is the most that this service takes."),
        "invalid_request_error",
        "request_too_large");

    /// <summary>The fault is the service's.</summary>
    public static ServingError Internal(string requestId) => new(
        StatusCodes.Status500InternalServerError,
        $"The service failed. Its log has the reason under the request's id, {requestId}.",
        "server_error",
        "internal_error");

    /// <summary>The body, as it is answered; what streams may send it as a piece.</summary>
    public string ToJson() => JsonSerializer.Serialize(new { error = new { message = Message, type = Type, param = Param, code = Code } }, s_json);

    /// <summary>Answers with it; nothing was answered before.</summary>
    /// <param name="context">The request.</param>
    public Task WriteAsync(HttpContext context)
    {
        HttpResponse response = context.Response;
        response.StatusCode = Status;
        response.ContentType = "application/json; charset=utf-8";
        if (Status == StatusCodes.Status401Unauthorized)
        {
            response.Headers.WWWAuthenticate = "Bearer";
        }

        if (RetryAfter is { } seconds)
        {
            response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
        }

        return response.WriteAsync(ToJson(), context.RequestAborted);
    }
}
