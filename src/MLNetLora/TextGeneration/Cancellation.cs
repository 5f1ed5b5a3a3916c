using Microsoft.ML.Runtime;

namespace MLNetLora.TextGeneration;

/// <summary>
/// Everything that can end a call: the call's own token, the transformer's, and <c>MLContext.CancelExecution</c>, with which AutoML ends a trial.
/// ML.NET has a flag to look at and no token, so it is looked at ten times a second.
/// </summary>
internal sealed class Cancellation : IDisposable
{
    private static readonly TimeSpan s_period = TimeSpan.FromMilliseconds(100);

    private readonly CancellationToken _call;
    private readonly CancellationToken _transformer;
    private readonly CancellationTokenSource _source;
    private readonly Timer? _timer;
    private readonly Lock _lock = new();
    private bool _disposed;

    public Cancellation(IHostEnvironment? environment, CancellationToken transformer, CancellationToken call)
    {
        _transformer = transformer;
        _call = call;
        _source = CancellationTokenSource.CreateLinkedTokenSource(transformer, call);
        if (environment is not null)
        {
            Look(environment);
            _timer = new Timer(_ => Look(environment), state: null, s_period, s_period);
        }
    }

    /// <summary>What the work has to look at.</summary>
    public CancellationToken Token => _source.Token;

    /// <summary>Does the work; the exception of a cancellation names the token that the caller knows.</summary>
    public T Run<T>(Func<CancellationToken, T> work)
    {
        try
        {
            return work(Token);
        }
        catch (OperationCanceledException exception) when (exception.CancellationToken == Token)
        {
            throw Known(exception);
        }
    }

    /// <summary>Does work that waits without a thread, as <see cref="Run"/> does other.</summary>
    public async Task<T> RunAsync<T>(Func<CancellationToken, Task<T>> work)
    {
        try
        {
            return await work(Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException exception) when (exception.CancellationToken == Token)
        {
            throw Known(exception);
        }
    }

    /// <summary>A cancellation by the token that the caller knows.</summary>
    public OperationCanceledException Known(OperationCanceledException exception)
    {
        CancellationToken known = _call.IsCancellationRequested ? _call : _transformer;
        return new OperationCanceledException(exception.Message, exception, known);
    }

    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
        }

        _timer?.Dispose();
        _source.Dispose();
    }

    private void Look(IHostEnvironment environment)
    {
        lock (_lock)
        {
            if (!_disposed && MLNetInternals.IsCancelled(environment))
            {
                _source.Cancel();
            }
        }
    }
}
