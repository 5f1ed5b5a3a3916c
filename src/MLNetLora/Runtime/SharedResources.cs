namespace MLNetLora.Runtime;

/// <summary>
/// What several calls use at a time: it goes, the last first, when Dispose was called and the last of them has ended. Dispose waits for nobody, and
/// whoever comes after it gets an <see cref="ObjectDisposedException"/>.
/// </summary>
internal sealed class SharedResources : NativeHandle
{
    private readonly Stack<IDisposable> _owned = [];

    /// <summary>Owns nothing yet.</summary>
    public SharedResources() => SetHandle(1); // there is no handle of its own

    /// <summary>Takes something over; only while one thread knows this object.</summary>
    public T Own<T>(T resource)
        where T : IDisposable
    {
        _owned.Push(resource);
        return resource;
    }

    /// <summary>Begins a call, which ends when the result is disposed.</summary>
    /// <param name="owner">Whose resources these are, for the exception's message.</param>
    /// <exception cref="ObjectDisposedException">They were disposed.</exception>
    public Call Begin(object owner)
    {
        ObjectDisposedException.ThrowIf(IsDisposed, owner);
        Hold();
        return new Call(this);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        while (_owned.TryPop(out IDisposable? resource))
        {
            resource.Dispose();
        }

        return true;
    }

    /// <summary>A call under way.</summary>
    public readonly struct Call(SharedResources resources) : IDisposable
    {
        /// <inheritdoc/>
        public void Dispose() => resources.DangerousRelease();
    }
}
