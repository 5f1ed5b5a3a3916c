namespace MLNetLora.AspNetCore;

/// <summary>Something that is loaded when the service starts, and kept up to date until it ends.</summary>
internal interface IServedComponent
{
    /// <summary>Its name.</summary>
    string Name { get; }

    /// <summary>What is being done with it, while it is being loaded.</summary>
    string Step { get; }

    /// <summary>Says that the service is not ready without it.</summary>
    /// <param name="before">The name of what is loaded before; null where it is the first.</param>
    void Announce(string? before);

    /// <summary>Loads it; then it answers.</summary>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    Task LoadAsync(CancellationToken cancellation);

    /// <summary>Looks for changes until it is cancelled; ends at once where there can be none.</summary>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    Task WatchAsync(CancellationToken cancellation);
}

/// <summary>A value that several use: disposed when its owner and the last of them have let it go.</summary>
/// <param name="value">The value.</param>
internal sealed class Shared<T>(T value)
    where T : IDisposable
{
    private int _users = 1;

    /// <summary>The value.</summary>
    public T Value => value;

    /// <summary>Another user; called where it is known that there is one.</summary>
    public void Take() => Interlocked.Increment(ref _users);

    /// <summary>A user less.</summary>
    public void Release()
    {
        if (Interlocked.Decrement(ref _users) == 0)
        {
            value.Dispose();
        }
    }
}
