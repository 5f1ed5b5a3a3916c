using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>One call of an endpoint, and what all of them do with it.</summary>
/// <param name="context">The request, behind <see cref="ServingEndpoint"/>.</param>
/// <param name="options">The endpoint's.</param>
internal sealed class ApiCall(HttpContext context, OpenAIEndpointOptions options)
{
    /// <summary>The request.</summary>
    public HttpContext Context => context;

    /// <summary>The endpoint's.</summary>
    public OpenAIEndpointOptions Options => options;

    /// <summary>The clock.</summary>
    public TimeProvider Time { get; } = context.RequestServices.GetRequiredService<TimeProvider>();

    /// <summary>Where a stream is written.</summary>
    public EventStream Events { get; } = new(context);

    /// <summary>The field that the prompt came in; errors about the prompt name it.</summary>
    public string? PromptField { get; set; }

    /// <summary>The models.</summary>
    public ModelRegistry Models => context.RequestServices.GetRequiredService<ModelRegistry>();

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
        catch (Exception error) when (call.Explain(error) is { } told)
        {
            if (call.Events.HasBegun)
            {
                context.Serving().Failed(told.Code ?? "error");
                await call.Events.FailAsync(told).ConfigureAwait(false);
            }
            else
            {
                await told.WriteAsync(context).ConfigureAwait(false);
            }
        }
        catch (Exception error) when (error is not OperationCanceledException && context.Serving().Cancellation.IsCancellationRequested)
        {
            // What a connection that was closed, or a model that was freed, throws.
            throw new OperationCanceledException(error.Message, error, context.Serving().Cancellation);
        }
    };

    /// <summary>The request's body.</summary>
    /// <exception cref="ApiException">It is not what it must be.</exception>
    public async Task<T> ReadAsync<T>(JsonTypeInfo<T> type)
        where T : class => WireReader.Read((await RequestBody.ReadAsync(context).ConfigureAwait(false)).Span, type);

    /// <summary>A model for this call.</summary>
    /// <param name="operation">OpenTelemetry's name for what is done with it.</param>
    /// <param name="name">The model's name.</param>
    /// <exception cref="ApiException">None of the name is served.</exception>
    public ModelLease Lease(string operation, string name)
    {
        ModelLease lease = Models.Lease(name) ?? throw new ApiException(ApiError.ModelNotFound(name));
        context.Serving().Asked(operation, name);
        return lease;
    }

    /// <summary>Answers with JSON.</summary>
    public async Task WriteAsync<T>(T value, JsonTypeInfo<T> type)
    {
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(value, type);
        context.Response.ContentType = "application/json; charset=utf-8";
        context.Response.ContentLength = body.Length;
        await context.Response.Body.WriteAsync(body, context.RequestAborted).ConfigureAwait(false);
    }

    /// <summary>Takes the pieces of answers that nobody sees before they are whole.</summary>
    public async Task EachAsync(IReadOnlyList<Answering> answers, Action<AnswerEvent> take)
    {
        await foreach (AnswerEvent next in AnswerEvents.Merge(answers, context.RequestAborted).ConfigureAwait(false))
        {
            context.Serving().Progress();
            take(next);
        }
    }

    /// <summary>Waits for work that has no pieces, and keeps the connection of a stream open.</summary>
    public async Task AliveAsync(bool isStream, Task work)
    {
        if (!isStream)
        {
            await work.ConfigureAwait(false);
            return;
        }

        await EventPump.RunAsync(_ => One(), _ => Task.CompletedTask, Events.PingAsync, options.PingInterval, Time, context.RequestAborted)
            .ConfigureAwait(false);

        async IAsyncEnumerable<bool> One()
        {
            await work.ConfigureAwait(false);
            yield return true;
        }
    }

    /// <summary>Counts an answer that has come to its end.</summary>
    /// <param name="reason">Why it has.</param>
    /// <param name="answer">The answer.</param>
    /// <param name="countsPrompt">Whether no other answer to the same prompt has been counted.</param>
    public void Ended(string reason, GeneratedText answer, bool countsPrompt)
    {
        ServingRequest serving = context.Serving();
        serving.Finished(reason);
        serving.Used(countsPrompt ? answer.PromptTokens : 0, answer.NewTokens, countsPrompt ? answer.CachedPromptTokens : 0);
        serving.Content("answer", () => $"{answer.Thinking}{answer.Text}");
    }

    /// <summary>Hands out pieces of answers as they come, and keeps the connection open while none comes.</summary>
    public Task StreamAsync(IReadOnlyList<Answering> answers, Func<AnswerEvent, Task> send) => EventPump.RunAsync(
        cancellation => AnswerEvents.Merge(answers, cancellation),
        next =>
        {
            context.Serving().Progress();
            return send(next);
        },
        Events.PingAsync,
        options.PingInterval,
        Time,
        context.RequestAborted);

    /// <summary>What the client is told of an exception; null where the exception is <see cref="ServingEndpoint"/>'s to answer.</summary>
    private ServingError? Explain(Exception error)
    {
        ServingRequest serving = context.Serving();
        if (serving.Cancellation.IsCancellationRequested)
        {
            return Events.HasBegun ? serving.Interruption : null;
        }

        if (ApiError.Of(error, PromptField) is { } told)
        {
            return told;
        }

        if (!Events.HasBegun)
        {
            return null;
        }

        // The stream is still there to say that it has failed.
        ServingLog.Failed(context.RequestServices.GetRequiredService<ILoggerFactory>().CreateLogger(ServingLog.Category), error, serving.Id);
        return ServingError.Internal(serving.Id);
    }
}
