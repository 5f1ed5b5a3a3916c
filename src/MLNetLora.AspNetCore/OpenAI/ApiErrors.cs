using Microsoft.AspNetCore.Http;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>What clients are told of exceptions, and how.</summary>
internal static class ApiErrors
{
    private const string RowPrefix = "Row 1: "; // a request is one row, and need not be told which

    /// <summary>What a client is told of an exception.</summary>
    /// <param name="exception">What was thrown.</param>
    /// <param name="prompt">The field that the prompt came in.</param>
    public static ApiError Of(Exception exception, string? prompt = null) => exception switch
    {
        ApiException known => known.Error,
        BadHttpRequestException { StatusCode: StatusCodes.Status413PayloadTooLarge } => TooLarge(null),
        BadHttpRequestException bad => new ApiError(bad.StatusCode, ApiErrorTypes.InvalidRequest, bad.Message),
        PromptException => ApiError.BadRequest(prompt, Sentence(exception), "context_length_exceeded"),
        TemplateException => ApiError.BadRequest(prompt, Sentence(exception), "invalid_prompt"),
        OptionException => ApiError.BadRequest(null, Sentence(exception), "invalid_value"),
        NativeMemoryException => Unavailable("There is too little memory for this request now. Send it again later, or a shorter one.", "out_of_memory"),
        ObjectDisposedException => Unavailable("The model is being unloaded. Send the request again later.", "model_unloaded"),
        _ => new ApiError(StatusCodes.Status500InternalServerError, ApiErrorTypes.Server, "The server failed with this request; its log says why."),
    };

    /// <summary>The body has more bytes than are read.</summary>
    /// <param name="limit">How many are; null where it is not known.</param>
    public static ApiError TooLarge(long? limit) => new(
        StatusCodes.Status413PayloadTooLarge,
        ApiErrorTypes.InvalidRequest,
        limit is null ? "The request's body is too large." : $"The request's body has more than {limit} bytes, the most that are read here.",
        null,
        "request_too_large");

    /// <summary>Answers with an error, where nothing was answered yet.</summary>
    public static async Task WriteAsync(HttpContext context, ApiError error)
    {
        context.Response.Clear();
        context.Response.StatusCode = error.Status;
        if (error.RetryAfterSeconds is { } seconds)
        {
            context.Response.Headers.RetryAfter = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
        }

        await Json.WriteAsync(context, new ErrorResponse(error), WireJson.Instance.ErrorResponse).ConfigureAwait(false);
    }

    private static ApiError Unavailable(string message, string code) =>
        new(StatusCodes.Status503ServiceUnavailable, ApiErrorTypes.Unavailable, message, null, code) { RetryAfterSeconds = 1 };

    private static string Sentence(Exception error) =>
        error.Message.StartsWith(RowPrefix, StringComparison.Ordinal)
            ? $"{char.ToUpperInvariant(error.Message[RowPrefix.Length])}{error.Message[(RowPrefix.Length + 1)..]}"
            : error.Message;
}
