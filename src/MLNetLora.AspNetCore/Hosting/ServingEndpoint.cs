using System.Diagnostics.CodeAnalysis;
using System.IO.Pipelines;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore;

/// <summary>What an endpoint needs before it is let loose on a request.</summary>
internal enum EndpointKind
{
    /// <summary>It generates: API key, a service that is ready, a turn at the gate, a deadline; it is measured.</summary>
    Generation,

    /// <summary>It tells something: API key.</summary>
    Information,

    /// <summary>It changes what is served: admin key, a service that is ready.</summary>
    Admin,
}

/// <summary>What stands before every endpoint: request id, key, size of the body, readiness, gate, deadline, and errors in OpenAI's form.</summary>
/// <remarks>It wraps the endpoint itself instead of being a middleware, so that nobody can leave it out of an application.</remarks>
internal sealed class ServingEndpoint(
    IOptions<ServingOptions> options,
    ApiKeys keys,
    ServingState state,
    RequestGate gate,
    BodyMemory bodies,
    ServingMetrics metrics,
    TimeProvider time,
    ILoggerFactory logs)
{
    private const string RequestIdHeader = "x-request-id";
    private const int LongestRequestId = 128;
    private const long MostAdminBytes = 64 << 10;

    private readonly ILogger _log = logs.CreateLogger(ServingLog.Category);

    /// <summary>Answers a request.</summary>
    /// <param name="context">It.</param>
    /// <param name="kind">What its endpoint needs.</param>
    /// <param name="next">The endpoint.</param>
    public async Task InvokeAsync(HttpContext context, EndpointKind kind, RequestDelegate next)
    {
        string id = RequestId(context.Request);
        context.Response.Headers[RequestIdHeader] = id;
        long most = kind == EndpointKind.Admin ? MostAdminBytes : options.Value.MaximumRequestBytes;
        if ((keys.Refusal(context.Request, kind == EndpointKind.Admin) ?? Limit(context, most)) is { } refusal)
        {
            await RefuseAsync(context, id, refusal).ConfigureAwait(false);
            return;
        }

        CancellationToken client = context.RequestAborted;
        using ServingRequest request = new(id, options.Value, time, _log, isTraced: kind == EndpointKind.Generation, client)
        {
            Caller = options.Value.PrefixCachePerKey ? keys.Caller(context.Request) : null,
        };
        context.Features.Set(request);
        if (kind == EndpointKind.Information)
        {
            await RunAsync(context, request, next, most).ConfigureAwait(false);
            return;
        }

        if (state.Begin(request, kind == EndpointKind.Generation && gate.IsFull ? gate.Full() : null) is { } unavailable)
        {
            await RefuseAsync(context, id, unavailable).ConfigureAwait(false);
            return;
        }

        try
        {
            context.RequestAborted = request.Cancellation;
            await (kind == EndpointKind.Admin ? RunAsync(context, request, next, most) : GenerateAsync(context, request, next, most)).ConfigureAwait(false);
        }
        finally
        {
            state.End(request);
            context.RequestAborted = client;
        }
    }

    private async Task GenerateAsync(HttpContext context, ServingRequest request, RequestDelegate next, long most)
    {
        bool isRefused = false;
        string? failure = null;
        try
        {
            failure = await RunAsync(context, request, WithTurn, most).ConfigureAwait(false);
        }
        finally
        {
            if (!isRefused) // that is counted already
            {
                request.End(metrics, context.Response.StatusCode, failure);
            }
        }

        async Task WithTurn(HttpContext waiting)
        {
            // First: who sends slowly holds no turn meanwhile, and no place in the queue.
            using BodyPlace? place = HasBody(waiting) ? bodies.Begin() : null;
            if (place is not null && await ReadBodyAsync(waiting, most, place).ConfigureAwait(false) is { } fault)
            {
                isRefused = true;
                await RefuseAsync(waiting, request.Id, fault).ConfigureAwait(false);
                return;
            }

            long start = time.GetTimestamp();
            (IDisposable? turn, ServingError? refusal) = await gate.EnterAsync(request.Cancellation).ConfigureAwait(false);
            if (turn is null)
            {
                isRefused = true;
                await RefuseAsync(waiting, request.Id, refusal!).ConfigureAwait(false);
                return;
            }

            using (turn)
            {
                metrics.Waited(time.GetElapsedTime(start));
                await next(waiting).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Runs an endpoint; what it throws becomes an error in OpenAI's form, or a broken connection where the answer has begun.</summary>
    /// <returns>A word for what went wrong; null where nothing did.</returns>
    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "Clients are told of every failure in the form that they read.")]
    private async Task<string?> RunAsync(HttpContext context, ServingRequest request, RequestDelegate next, long most)
    {
        CancellationToken client = context.RequestAborted;
        ServingError? error;
        string? failure;
        try
        {
            await next(context).ConfigureAwait(false);
            return null;
        }
        catch (OperationCanceledException) when (request.Cancellation.IsCancellationRequested)
        {
            error = request.Interruption;
            failure = error?.Code ?? "cancelled";
        }
        catch (BadHttpRequestException e)
        {
            error = e.StatusCode == StatusCodes.Status413PayloadTooLarge
                ? ServingError.TooLarge(most)
                : new ServingError(e.StatusCode, e.Message, "invalid_request_error");
            failure = error.Code ?? "bad_request";
        }
        catch (NativeMemoryException e)
        {
            ServingLog.Failed(_log, e, request.Id);
            error = ServingError.OutOfMemory;
            failure = error.Code;
        }
        catch (Exception e)
        {
            ServingLog.Failed(_log, e, request.Id);
            error = ServingError.Internal(request.Id);
            failure = error.Code;
        }

        if (error is null || context.Response.HasStarted)
        {
            context.Abort(); // what was sent of the answer must not look like all of it
            return failure;
        }

        context.RequestAborted = CancellationToken.None; // the deadline has passed, and the client is there
        context.Response.Clear();
        context.Response.Headers[RequestIdHeader] = request.Id;
        await error.WriteAsync(context).ConfigureAwait(false);
        context.RequestAborted = client;
        return failure;
    }

    private Task RefuseAsync(HttpContext context, string id, ServingError refusal)
    {
        metrics.Refused(refusal.Code ?? "error");
        ServingLog.Refused(_log, id, refusal.Status, refusal.Code ?? "error");
        return refusal.WriteAsync(context);
    }

    private static ServingError? Limit(HttpContext context, long most)
    {
        if (context.Request.ContentLength > most)
        {
            return ServingError.TooLarge(most);
        }

        if (context.Features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = most;
        }

        return null;
    }

    private static bool HasBody(HttpContext context) => context.Features.Get<IHttpRequestBodyDetectionFeature>() is not { CanHaveBody: false };

    /// <summary>Reads the body into memory, from which the endpoint reads it.</summary>
    /// <returns>Null, or that it is too large, or comes too slowly.</returns>
    private static async Task<ServingError?> ReadBodyAsync(HttpContext context, long most, BodyPlace place)
    {
        // A read that a token ends leaves the server's reader as if somebody read on, of which the server complains when it takes the rest: reads are ended so.
        PipeReader reader = context.Request.BodyReader;
        using CancellationTokenRegistration aborted = context.RequestAborted.UnsafeRegister(CancelRead, reader);
        using CancellationTokenRegistration ended = place.Ended.UnsafeRegister(CancelRead, reader);
        MemoryStream body = new();
        context.Response.RegisterForDispose(body);
        try
        {
            ServingError? refusal = place.Grow(0);
            for (bool isWhole = false; refusal is null && !isWhole;)
            {
                ReadResult read = await reader.ReadAsync(CancellationToken.None).ConfigureAwait(false);
                isWhole = read.IsCompleted;
                long length = body.Length + read.Buffer.Length;
                refusal = read.IsCanceled ? BodyMemory.TooSlow() : length > most ? ServingError.TooLarge(most) : place.Grow(length);
                foreach (ReadOnlyMemory<byte> part in refusal is null ? read.Buffer : default)
                {
                    body.Write(part.Span);
                }

                reader.AdvanceTo(read.Buffer.End);
            }

            context.RequestAborted.ThrowIfCancellationRequested();
            if (refusal is not null)
            {
                return refusal;
            }
        }
        catch (IOException e) when (e is not BadHttpRequestException)
        {
            if (e is ConnectionResetException)
            {
                context.Abort(); // else the server would look for the rest of the body of a client that has gone
            }

            // Chunks whose length is no number, or a client that has gone.
            throw new BadHttpRequestException("The body cannot be read as its headers describe it.", StatusCodes.Status400BadRequest, e);
        }

        place.Complete();
        body.Position = 0;
        context.Request.Body = body;
        return null;
    }

    private static void CancelRead(object? reader)
    {
        try
        {
            ((PipeReader)reader!).CancelPendingRead();
        }
        catch (ConnectionAbortedException)
        {
            // The read ends by itself, and what a token's callback throws would be the server's to log.
        }
    }

    /// <summary>The client's id where it is one that a log can hold, else a new one.</summary>
    private static string RequestId(HttpRequest request)
    {
        string asked = request.Headers[RequestIdHeader].ToString();
        return asked.Length is > 0 and <= LongestRequestId && asked.All(c => char.IsAsciiLetterOrDigit(c) || "-_.:/+=".Contains(c))
            ? asked
            : $"req_{Guid.NewGuid():N}";
    }
}

/// <summary>How endpoints come behind <see cref="ServingEndpoint"/>.</summary>
internal static class ServingEndpointExtensions
{
    /// <summary>Puts what every endpoint needs before this one.</summary>
    /// <param name="builder">The endpoint, or a group.</param>
    /// <param name="kind">What it needs.</param>
    public static TBuilder WithServing<TBuilder>(this TBuilder builder, EndpointKind kind)
        where TBuilder : IEndpointConventionBuilder
    {
        builder.Finally(endpoint =>
        {
            RequestDelegate next = endpoint.RequestDelegate ?? throw new InvalidOperationException("The endpoint has nothing to run.");
            endpoint.RequestDelegate = context => context.RequestServices.GetRequiredService<ServingEndpoint>().InvokeAsync(context, kind, next);
        });
        return builder;
    }

    /// <summary>What an endpoint tells about its request.</summary>
    /// <param name="context">The request of an endpoint behind <see cref="WithServing"/>.</param>
    public static ServingRequest Serving(this HttpContext context) =>
        context.Features.Get<ServingRequest>() ?? throw new InvalidOperationException("The endpoint was mapped without WithServing.");
}
