using System.Buffers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Writes server-sent events. The response begins with the first of them, so that what is wrong before is an error with its status.</summary>
/// <param name="context">The request.</param>
internal sealed class EventStream(HttpContext context)
{
    private static readonly byte[] s_prefix = [.. "data: "u8];
    private static readonly byte[] s_end = [.. "\n\n"u8];
    private static readonly byte[] s_done = [.. "data: [DONE]\n\n"u8];
    private static readonly byte[] s_ping = [.. ":\n\n"u8];

    /// <summary>Whether the response has begun, so that it has no other status any more.</summary>
    public bool HasBegun { get; private set; }

    /// <summary>An event.</summary>
    public async Task SendAsync<T>(T value, JsonTypeInfo<T> type)
    {
        Begin();
        context.Response.BodyWriter.Write(s_prefix);
        await using (Utf8JsonWriter writer = new(context.Response.BodyWriter, new JsonWriterOptions { Encoder = type.Options.Encoder, SkipValidation = true }))
        {
            JsonSerializer.Serialize(writer, value, type);
        }

        await EndAsync(s_end).ConfigureAwait(false);
    }

    /// <summary>An error, behind which nothing comes, no [DONE] either: the stream has not come to its end.</summary>
    /// <remarks>No token ends it: the deadline may have passed, and the client is there.</remarks>
    public async Task FailAsync(ServingError error)
    {
        context.Response.BodyWriter.Write(s_prefix);
        context.Response.BodyWriter.Write(Encoding.UTF8.GetBytes(error.ToJson()));
        await context.Response.BodyWriter.WriteAsync(s_end, CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>The end of a whole stream; one that ends without it has failed.</summary>
    public Task DoneAsync()
    {
        Begin();
        return EndAsync(s_done);
    }

    /// <summary>A comment, which clients pass over.</summary>
    public Task PingAsync()
    {
        Begin();
        return EndAsync(s_ping);
    }

    private void Begin()
    {
        if (HasBegun)
        {
            return;
        }

        HasBegun = true;
        HttpResponse response = context.Response;
        response.ContentType = "text/event-stream; charset=utf-8";
        response.Headers.CacheControl = "no-cache";
        response.Headers["X-Accel-Buffering"] = "no"; // nginx would collect what is to be seen as it comes
        context.Features.Get<IHttpResponseBodyFeature>()?.DisableBuffering();
    }

    private async Task EndAsync(ReadOnlyMemory<byte> bytes)
    {
        context.Response.BodyWriter.Write(bytes.Span); // whatever has ended meanwhile: an error may follow, which is an event of its own
        await context.Response.BodyWriter.FlushAsync(context.RequestAborted).ConfigureAwait(false);
        context.RequestAborted.ThrowIfCancellationRequested();
    }
}
