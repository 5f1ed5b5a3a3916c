using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>One call of an endpoint, and what all of them do with it.</summary>
/// <param name="context">The request.</param>
/// <param name="options">The endpoint's.</param>
internal sealed partial class ApiCall(HttpContext context, OpenAIEndpointOptions options)
{
    /// <summary>The request.</summary>
    public HttpContext Context => context;

    /// <summary>The endpoint's.</summary>
    public OpenAIEndpointOptions Options => options;

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; } = context.RequestServices.GetService<TimeProvider>() ?? TimeProvider.System;

    /// <summary>Where a stream is written.</summary>
    public EventStream Events { get; } = new(context);

    /// <summary>The field that the prompt came in; errors about the prompt name it.</summary>
    public string? PromptField { get; set; }

    /// <summary>The models.</summary>
    public ModelRegistry Models => context.RequestServices.GetService<ModelRegistry>()
        ?? throw new InvalidOperationException("No models are registered: call services.AddMLNetLora(…) before the application is built.");

    /// <summary>An endpoint that answers errors in OpenAI's form.</summary>
    /// <param name="options">The endpoint's.</param>
    /// <param name="handle">Answers a call.</param>
    public static RequestDelegate Handler(OpenAIEndpointOptions options, Func<ApiCall, Task> handle) => async context =>
    {
        ApiCall call = new(context, options);
        try
        {
            await handle(call).ConfigureAwait(false);
        }
        catch (Exception) when (context.RequestAborted.IsCancellationRequested)
        {
            // Nobody is there to be told anything.
        }
        catch (Exception error)
        {
            await call.FailAsync(error).ConfigureAwait(false);
        }
    };

    /// <summary>The request's body.</summary>
    /// <exception cref="ApiException">It is not what it must be.</exception>
    public async Task<T> ReadAsync<T>(JsonTypeInfo<T> type)
        where T : class => WireReader.Read(await RequestBody.ReadAsync(context, options.MaximumRequestBytes).ConfigureAwait(false), type);

    /// <summary>A model for this call.</summary>
    /// <exception cref="ApiException">None of the name is served.</exception>
    public ModelLease Lease(string name) => Models.Lease(name) ?? throw new ApiException(ApiError.ModelNotFound(name));

    /// <summary>Answers with JSON.</summary>
    public Task WriteAsync<T>(T value, JsonTypeInfo<T> type) => Json.WriteAsync(context, value, type);

    /// <summary>Waits for answers that nobody sees before they are whole.</summary>
    /// <returns>Them, in their order.</returns>
    public async Task<IReadOnlyList<GeneratedText>> WholeAsync(IReadOnlyList<Func<CancellationToken, IAsyncEnumerable<GeneratedChunk>>> answers)
    {
        GeneratedText[] whole = new GeneratedText[answers.Count];
        await foreach (AnswerEvent next in AnswerEvents.Merge(answers, context.RequestAborted).ConfigureAwait(false))
        {
            whole[next.Choice] = next.Chunk.Answer ?? whole[next.Choice];
        }

        return whole;
    }

    /// <summary>Hands out pieces of answers as they come, and keeps the connection open while none comes.</summary>
    public Task StreamAsync(IReadOnlyList<Func<CancellationToken, IAsyncEnumerable<GeneratedChunk>>> answers, Func<AnswerEvent, Task> send) =>
        EventPump.RunAsync(
            cancellation => AnswerEvents.Merge(answers, cancellation), send, Events.PingAsync, options.PingInterval, Time, context.RequestAborted);

    private async Task FailAsync(Exception exception)
    {
        ApiError error = ApiErrors.Of(exception, PromptField);
        if (error.Status >= StatusCodes.Status500InternalServerError && exception is not ApiException)
        {
            Failed(context.RequestServices.GetRequiredService<ILogger<ApiCall>>(), exception);
        }

        if (!context.Response.HasStarted)
        {
            await ApiErrors.WriteAsync(context, error).ConfigureAwait(false);
        }
        else if (context.Response.ContentType?.StartsWith("text/event-stream", StringComparison.Ordinal) == true)
        {
            // No [DONE] behind it: the stream has not come to its end.
            await Events.SendAsync(new ErrorResponse(error), WireJson.Instance.ErrorResponse).ConfigureAwait(false);
        }
        else
        {
            context.Abort(); // half of an answer must not look like a whole one
        }
    }

    [LoggerMessage(1, LogLevel.Error, "A request to the OpenAI endpoints has failed.")]
    private static partial void Failed(ILogger logger, Exception error);
}
