using System.Diagnostics;
using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace MLNetLora.AspNetCore;

/// <summary>
/// One request from its arrival to its end: what endpoints tell it becomes metrics, a trace and a line in the log. Endpoints behind
/// <see cref="ServingEndpointExtensions.WithServing"/> find it with <see cref="ServingEndpointExtensions.Serving"/>. Calls of one request do not overlap.
/// </summary>
internal sealed class ServingRequest : IDisposable
{
    private readonly ServingOptions _options;
    private readonly TimeProvider _time;
    private readonly ILogger _log;
    private readonly long _start;
    private readonly CancellationToken _client;
    private readonly CancellationTokenSource _deadline;
    private readonly CancellationTokenSource _shutdown = new();
    private readonly CancellationTokenSource _any;
    private readonly Activity? _activity;
    private readonly List<string> _reasons = [];
    private string? _failure;
    private string _operation = "unknown";
    private string _model = "unknown";
    private TimeSpan? _firstToken;
    private int _promptTokens;
    private int _newTokens;
    private int _cachedTokens;

    /// <summary>Begins with the request's arrival.</summary>
    /// <param name="id">Its id.</param>
    /// <param name="options">Deadline, and whether content is logged.</param>
    /// <param name="time">Measures.</param>
    /// <param name="log">Gets the line.</param>
    /// <param name="isTraced">Whether it is an activity.</param>
    /// <param name="client">Ends when the client has gone.</param>
    public ServingRequest(string id, ServingOptions options, TimeProvider time, ILogger log, bool isTraced, CancellationToken client)
    {
        Id = id;
        _options = options;
        _time = time;
        _log = log;
        _client = client;
        _start = time.GetTimestamp();
        _deadline = new CancellationTokenSource(options.RequestTimeout, time);
        _any = CancellationTokenSource.CreateLinkedTokenSource(client, _deadline.Token, _shutdown.Token);
        _activity = isTraced ? ServingMetrics.Traces.StartActivity("request") : null;
    }

    /// <summary>Who asks, where others are not to learn what he has asked; null where all share what is kept of prompts.</summary>
    public string? Caller { get; init; }

    /// <summary>The request's id, which is answered as x-request-id.</summary>
    public string Id { get; }

    /// <summary>Ends when the client has gone, the deadline has passed or the service ends; is the context's RequestAborted, too.</summary>
    public CancellationToken Cancellation => _any.Token;

    /// <summary>Since the request's arrival.</summary>
    public TimeSpan Elapsed => _time.GetElapsedTime(_start);

    /// <summary>What the client is told where <see cref="Cancellation"/> ended the answer: null where he has gone, or nothing ended it.</summary>
    public ServingError? Interruption => (_client.IsCancellationRequested, _shutdown.IsCancellationRequested, _deadline.IsCancellationRequested) switch
    {
        (true, _, _) => null,
        (_, true, _) => ServingError.Unavailable("The service ended before the answer was complete. Try again.", "shutdown", 1),
        (_, _, true) => new ServingError(
            StatusCodes.Status504GatewayTimeout,
            string.Create(
                CultureInfo.InvariantCulture,
                $"The answer was not complete after {_options.RequestTimeout.TotalSeconds:0.###} seconds, the most that a request may take."),
            "timeout_error",
            "deadline_exceeded"),
        _ => null,
    };

    /// <summary>What is asked for is known.</summary>
    /// <param name="operation">OpenTelemetry's name: chat, text_completion.</param>
    /// <param name="model">The name of a model that is served.</param>
    public void Asked(string operation, string model) => (_operation, _model) = (operation, model);

    /// <summary>Logs what is asked and what is answered, where the options ask for it, and else nothing.</summary>
    /// <param name="what">prompt or answer.</param>
    /// <param name="text">Makes the text; not called where nothing is logged.</param>
    public void Content(string what, Func<string> text)
    {
        if (_options.LogContent)
        {
            ServingLog.Content(_log, Id, what, text());
        }
    }

    /// <summary>With whom the request shares what is kept of prompts.</summary>
    /// <param name="asked">The salt that it gives; null for none.</param>
    /// <returns>What the engine compares; null for everybody who gives none.</returns>
    public string? CacheSalt(string? asked) => Caller is null ? asked : $"{Caller}:{asked}";

    /// <summary>A piece of an answer came; the first one counts.</summary>
    public void Progress() => _firstToken ??= Elapsed;

    /// <summary>One of the answers has ended.</summary>
    /// <param name="reason">stop, length, tool_calls.</param>
    public void Finished(string reason) => _reasons.Add(reason);

    /// <summary>What the answers have cost; adds up.</summary>
    /// <param name="promptTokens">Tokens of the prompt.</param>
    /// <param name="newTokens">Tokens of the answer.</param>
    /// <param name="cachedPromptTokens">Tokens of the prompt that the prefix cache had.</param>
    public void Used(int promptTokens, int newTokens, int cachedPromptTokens = 0)
    {
        _promptTokens += promptTokens;
        _newTokens += newTokens;
        _cachedTokens += cachedPromptTokens;
    }

    /// <summary>The answer ended with an error, which the response's status, sent before, does not say.</summary>
    /// <param name="code">A word for it.</param>
    public void Failed(string code) => _failure ??= code;

    /// <summary>The service ends, and cannot wait any longer.</summary>
    public void Shutdown()
    {
        try
        {
            _shutdown.Cancel();
        }
        catch (ObjectDisposedException)
        {
            // It has just ended by itself.
        }
    }

    /// <summary>Records the request's end.</summary>
    /// <param name="metrics">What counts it.</param>
    /// <param name="status">Of the response.</param>
    /// <param name="failure">What went wrong where no status can say so any more; null for nothing.</param>
    public void End(ServingMetrics metrics, int status, string? failure)
    {
        failure ??= _failure;
        if (_any.IsCancellationRequested && _reasons.Count == 0)
        {
            failure = _client.IsCancellationRequested ? "cancelled" : Interruption?.Code;
        }

        string? error = failure ?? (status >= StatusCodes.Status400BadRequest ? status.ToString(CultureInfo.InvariantCulture) : null);
        if (error is not null && _reasons.Count == 0)
        {
            _reasons.Add(failure ?? "error");
        }

        RequestRecord record = new(_operation, _model, Elapsed, _firstToken, _reasons, _promptTokens, _newTokens, _cachedTokens, error);
        metrics.Ended(record);
        Trace(record);
        ServingLog.Ended(
            _log, Id, _operation, _model, status, string.Join(',', _reasons), _promptTokens, _cachedTokens, _newTokens,
            Math.Round(record.Duration.TotalMilliseconds), Math.Round((_firstToken ?? TimeSpan.Zero).TotalMilliseconds));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _activity?.Dispose();
        _any.Dispose();
        _deadline.Dispose();
        _shutdown.Dispose();
    }

    private void Trace(RequestRecord record)
    {
        if (_activity is null)
        {
            return;
        }

        _activity.DisplayName = $"{_operation} {_model}";
        _activity.SetTag("gen_ai.operation.name", _operation);
        _activity.SetTag("gen_ai.provider.name", ServingMetrics.Provider);
        _activity.SetTag("gen_ai.request.model", _model);
        _activity.SetTag("gen_ai.response.id", Id);
        _activity.SetTag("gen_ai.response.finish_reasons", _reasons.ToArray());
        _activity.SetTag("gen_ai.usage.input_tokens", _promptTokens);
        _activity.SetTag("gen_ai.usage.output_tokens", _newTokens);
        _activity.SetTag("gen_ai.usage.cache_read.input_tokens", _cachedTokens);
        if (record.Error is { } error)
        {
            _activity.SetTag("error.type", error);
            _activity.SetStatus(ActivityStatusCode.Error, error);
        }
    }
}
