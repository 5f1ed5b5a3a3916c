using System.Globalization;
using System.Threading.RateLimiting;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore;

/// <summary>So many requests are answered at once, so many wait, first in, first out; more are refused. Thread-safe.</summary>
internal sealed class RequestGate : IDisposable
{
    private const int LongestRetry = 60;

    private readonly ServingOptions _options;
    private readonly TimeProvider _time;
    private readonly ConcurrencyLimiter _limiter;
    private readonly Lock _lock = new();
    private int _running;
    private double _seconds = 1; // of an answer, the last ones counting most

    public RequestGate(IOptions<ServingOptions> options, TimeProvider time)
    {
        _options = options.Value;
        _time = time;
        _limiter = new ConcurrencyLimiter(new ConcurrencyLimiterOptions
        {
            PermitLimit = _options.MaximumConcurrentRequests,
            QueueLimit = _options.MaximumQueuedRequests,
            QueueProcessingOrder = QueueProcessingOrder.OldestFirst,
        });
    }

    /// <summary>Requests that are being answered.</summary>
    public int Running => Volatile.Read(ref _running);

    /// <summary>Requests that wait for their turn.</summary>
    public int Waiting => (int)(_limiter.GetStatistics()?.CurrentQueuedCount ?? 0);

    /// <summary>Whether the next request would be refused.</summary>
    public bool IsFull => Running >= _options.MaximumConcurrentRequests && Waiting >= _options.MaximumQueuedRequests;

    /// <summary>Waits for a turn.</summary>
    /// <param name="cancellation">Ends the wait with an <see cref="OperationCanceledException"/>, and frees the place.</param>
    /// <returns>The turn, to be disposed when the answer has ended; or why there is none.</returns>
    public async ValueTask<(IDisposable? Turn, ServingError? Refusal)> EnterAsync(CancellationToken cancellation)
    {
        using CancellationTokenSource late = new(_options.QueueTimeout, _time);
        using CancellationTokenSource either = CancellationTokenSource.CreateLinkedTokenSource(cancellation, late.Token);
        RateLimitLease lease;
        try
        {
            lease = await _limiter.AcquireAsync(1, either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            string waited = string.Create(CultureInfo.InvariantCulture, $"{_options.QueueTimeout.TotalSeconds:0.###}");
            string message = $"The request waited {waited} seconds, and did not get its turn. Try again later.";
            return (null, ServingError.TooMany(message, "queue_timeout", RetryAfter()));
        }

        if (!lease.IsAcquired)
        {
            lease.Dispose();
            return (null, Full());
        }

        Interlocked.Increment(ref _running);
        return (new Turn(this, lease, _time.GetTimestamp()), null);
    }

    /// <summary>What one request too many is told.</summary>
    public ServingError Full() => ServingError.TooMany(
        "The service answers as many requests as it can, and its queue is full. Try again later.", "queue_full", RetryAfter());

    /// <inheritdoc/>
    public void Dispose() => _limiter.Dispose();

    /// <summary>How long those before a new request may take, in whole seconds.</summary>
    private int RetryAfter()
    {
        double seconds;
        lock (_lock)
        {
            seconds = _seconds;
        }

        return (int)Math.Clamp(Math.Ceiling(seconds * (Waiting + 1) / _options.MaximumConcurrentRequests), 1, LongestRetry);
    }

    private sealed class Turn(RequestGate gate, RateLimitLease lease, long start) : IDisposable
    {
        private int _ended;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _ended, 1) != 0)
            {
                return;
            }

            lock (gate._lock)
            {
                const double weightOfOne = 0.1;
                gate._seconds += weightOfOne * (gate._time.GetElapsedTime(start).TotalSeconds - gate._seconds);
            }

            Interlocked.Decrement(ref gate._running);
            lease.Dispose();
        }
    }
}
