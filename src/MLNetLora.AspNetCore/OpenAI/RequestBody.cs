using System.Buffers;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Http;
using Microsoft.Net.Http.Headers;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Reads the body of a request.</summary>
internal static class RequestBody
{
    /// <summary>The bytes of a JSON body.</summary>
    /// <param name="context">The request.</param>
    /// <param name="limit">Most bytes that are read.</param>
    /// <exception cref="ApiException">It is too large, or not JSON in UTF-8 by its headers.</exception>
    public static async Task<byte[]> ReadAsync(HttpContext context, long limit)
    {
        RequireJson(context.Request);
        PipeReader reader = context.Request.BodyReader;
        while (true)
        {
            ReadResult read = await reader.ReadAsync(context.RequestAborted).ConfigureAwait(false);
            if (read.Buffer.Length > limit)
            {
                reader.AdvanceTo(read.Buffer.End);
                throw new ApiException(ServingError.TooLarge(limit));
            }

            if (read.IsCompleted)
            {
                byte[] body = read.Buffer.ToArray();
                reader.AdvanceTo(read.Buffer.End);
                return body;
            }

            reader.AdvanceTo(read.Buffer.Start, read.Buffer.End);
        }
    }

    /// <summary>
    /// A browser sends other types to any server without asking it first, so that every page could put this machine to work; JSON it does not.
    /// </summary>
    private static void RequireJson(HttpRequest request)
    {
        bool isJson = MediaTypeHeaderValue.TryParse(request.ContentType, out MediaTypeHeaderValue? type)
            && type.MediaType.Equals("application/json", StringComparison.OrdinalIgnoreCase)
            && (!type.Charset.HasValue || HeaderUtilities.RemoveQuotes(type.Charset).Equals("utf-8", StringComparison.OrdinalIgnoreCase));
        if (!isJson || request.Headers.ContentEncoding.Count > 0)
        {
            const string message = "The body must be JSON in UTF-8, not compressed: send it with the header Content-Type: application/json.";
            throw new ApiException(
                ServingError.Invalid(message, null, "unsupported_content_type") with { Status = StatusCodes.Status415UnsupportedMediaType });
        }
    }
}
