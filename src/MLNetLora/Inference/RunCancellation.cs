namespace MLNetLora.Inference;

/// <summary>Ends a run that several requests take part in when none of them waits any more.</summary>
internal sealed class RunCancellation : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly CancellationTokenRegistration[] _registrations;
    private int _waiting;

    /// <summary>Listens to the requests.</summary>
    /// <param name="requests">The token of each.</param>
    public RunCancellation(IReadOnlyList<CancellationToken> requests)
    {
        _waiting = requests.Count;
        _registrations = [.. requests.Select(token => token.UnsafeRegister(static self => ((RunCancellation)self!).Leave(), this))];
    }

    /// <summary>Cancelled when all of them are.</summary>
    public CancellationToken Token => _source.Token;

    /// <inheritdoc/>
    public void Dispose()
    {
        Array.ForEach(_registrations, registration => registration.Dispose()); // waits for those that are being called
        _source.Dispose();
    }

    private void Leave()
    {
        if (Interlocked.Decrement(ref _waiting) == 0)
        {
            _source.Cancel();
        }
    }
}
