namespace MLNetLora.Runtime;

/// <summary>
/// Who uses GPUs. While kernels are captured as a CUDA graph, CUDA refuses memory, copies and waiting to all other threads of the process, and what they do may
/// spoil the capture: so a capture waits until nobody else is there, and others wait for it. Everything else goes on at once.
/// </summary>
internal static class DeviceUse
{
    private static readonly ReaderWriterLockSlim s_lock = new(LockRecursionPolicy.SupportsRecursion);

    /// <summary>Does something on a device beside others.</summary>
    /// <param name="device">The device; on one that captures nothing, nothing is waited for.</param>
    /// <param name="action">What.</param>
    public static T Beside<T>(Device? device, Func<T> action)
    {
        if (device is not CudaDevice || s_lock.IsWriteLockHeld)
        {
            return action();
        }

        s_lock.EnterReadLock();
        try
        {
            return action();
        }
        finally
        {
            s_lock.ExitReadLock();
        }
    }

    /// <summary>Does something while nobody else does.</summary>
    public static T Alone<T>(Func<T> action)
    {
        s_lock.EnterWriteLock();
        try
        {
            return action();
        }
        finally
        {
            s_lock.ExitWriteLock();
        }
    }
}
