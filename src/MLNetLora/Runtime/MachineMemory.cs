namespace MLNetLora.Runtime;

/// <summary>How much memory there is for what is about to be allocated.</summary>
internal static class MachineMemory
{
    /// <summary>What a test says there is, in bytes; null: what the machine (or the container) has.</summary>
    [ThreadStatic]
    internal static long? Given;

    /// <summary>Bytes of the machine, or of the container where it has a limit.</summary>
    public static long Available => Given ?? GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;

    /// <summary>Bytes of a GPU, whoever uses them; null where the driver does not say.</summary>
    public static long? Of(CudaDevice device) => (Given ?? CudaDriver.Ask(device.DeviceId)?.Memory) is > 0 and var memory ? memory : null;

    /// <summary>Bytes as people read them: 15.2 GB, or 3.1 MB.</summary>
    public static string Gigabytes(long bytes) =>
        bytes >= 100_000_000 ? FormattableString.Invariant($"{bytes / 1e9:F1} GB") : FormattableString.Invariant($"{bytes / 1e6:F1} MB");
}
