using Microsoft.AspNetCore.Http;
using Microsoft.Net.Http.Headers;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Reads the body of a request, whose size <see cref="ServingEndpoint"/> has looked at.</summary>
internal static class RequestBody
{
    /// <summary>The bytes of a JSON body: those that <see cref="ServingEndpoint"/> has in memory already, without a copy.</summary>
    /// <param name="context">The request.</param>
    /// <exception cref="ApiException">It is not JSON in UTF-8 by its headers.</exception>
    public static async Task<ReadOnlyMemory<byte>> ReadAsync(HttpContext context)
    {
        if (Refusal(context.Request) is { } refusal)
        {
            throw new ApiException(refusal);
        }

        if (context.Request.Body is MemoryStream held && held.TryGetBuffer(out ArraySegment<byte> bytes))
        {
            return bytes;
        }

        using MemoryStream body = new();
        await context.Request.Body.CopyToAsync(body, context.RequestAborted).ConfigureAwait(false);
        return body.GetBuffer().AsMemory(0, (int)body.Length);
    }

    /// <summary>
    /// A browser sends other types to any server without asking it first, so that every page could put this machine to work; JSON it does not.
    /// </summary>
    /// <returns>Why the body is not read; null where it is JSON by its headers.</returns>
    public static ServingError? Refusal(HttpRequest request)
    {
        bool isJson = MediaTypeHeaderValue.TryParse(request.ContentType, out MediaTypeHeaderValue? type)
            && type.MediaType.Equals("application/json", StringComparison.OrdinalIgnoreCase)
            && (!type.Charset.HasValue || HeaderUtilities.RemoveQuotes(type.Charset).Equals("utf-8", StringComparison.OrdinalIgnoreCase));
        const string message = "The body must be JSON in UTF-8, not compressed: send it with the header Content-Type: application/json.";
        return isJson && request.Headers.ContentEncoding.Count == 0 ? null
            : ServingError.Invalid(message, null, "unsupported_content_type") with { Status = StatusCodes.Status415UnsupportedMediaType };
    }
}
