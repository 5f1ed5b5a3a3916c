using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Runtime;

/// <summary>
/// Owns a session of ONNX Runtime together with the tensors that took the place of its initializers: they go when the session has gone, and that goes
/// when its last run has ended.
/// </summary>
internal sealed class SessionHandle : NativeHandle
{
    private static long s_live;

    private readonly NativeTensor[] _initializers;

    /// <summary>Takes a session over.</summary>
    /// <param name="session">The session.</param>
    /// <param name="initializers">What it points to; kept until it is gone.</param>
    /// <param name="device">Where it runs; null for the processor.</param>
    public SessionHandle(InferenceSession session, NativeTensor[] initializers, Device? device = null)
    {
        Session = session;
        Device = device;
        _initializers = initializers;
        foreach (NativeTensor tensor in initializers)
        {
            tensor.Hold();
        }

        SetHandle(1); // the session holds the real one
        Interlocked.Increment(ref s_live);
    }

    /// <summary>Number of sessions in this process that are not freed yet.</summary>
    public static long Live => Interlocked.Read(ref s_live);

    /// <summary>The session; only for its users.</summary>
    public InferenceSession Session { get; }

    /// <summary>Where it runs; null for the processor.</summary>
    public Device? Device { get; }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        DeviceUse.Beside(Device, () =>
        {
            Session.Dispose();
            return true;
        });
        foreach (NativeTensor tensor in _initializers)
        {
            tensor.DangerousRelease();
        }

        Interlocked.Decrement(ref s_live);
        return true;
    }
}
