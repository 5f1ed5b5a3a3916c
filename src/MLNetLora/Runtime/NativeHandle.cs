using System.Runtime.InteropServices;

namespace MLNetLora.Runtime;

/// <summary>
/// Something native with users: it can be used until Dispose, and goes when its last user has let it go. Dropped without Dispose, the finalizer frees it.
/// </summary>
internal abstract class NativeHandle() : SafeHandle(0, ownsHandle: true)
{
    private volatile bool _disposed;

    /// <summary>Whether Dispose was called; the users of before may still be there. (IsClosed is true only when they have gone, too.)</summary>
    public bool IsDisposed => _disposed;

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Becomes a user; to be followed by <see cref="SafeHandle.DangerousRelease"/>.</summary>
    /// <exception cref="ObjectDisposedException">It was disposed.</exception>
    public void Hold()
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        bool held = false;
        DangerousAddRef(ref held);
    }

    /// <summary>Takes over a handle of the runtime: it goes with this one, and not by a finalizer of its own, which would have no order.</summary>
    protected static T Adopt<T>(T handle)
        where T : class
    {
#pragma warning disable CA1816 // that is what it is for
        GC.SuppressFinalize(handle);
#pragma warning restore CA1816
        return handle;
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        _disposed = true;
        base.Dispose(disposing);
    }
}
