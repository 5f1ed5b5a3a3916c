namespace MLNetLora.Checkpoints;

/// <summary>How far a download is.</summary>
/// <param name="File">Name of the file that bytes have just come for, such as model.safetensors; the model's id before the first one.</param>
/// <param name="Bytes">How many bytes of all files are here, those that the cache held before with them.</param>
/// <param name="TotalBytes">How many bytes all files have; 0 while that is not known.</param>
/// <param name="BytesPerSecond">What has come over the network since the start, per second.</param>
public sealed record HubProgress(string File, long Bytes, long TotalBytes, double BytesPerSecond)
{
    /// <summary>A sentence where something other than bytes is to be told: another process holds the file, the server asks to wait, a connection was cut and
    /// is tried again; null otherwise.</summary>
    public string? Message { get; init; }

    /// <summary>What is left at the speed so far; null where that is not known.</summary>
    public TimeSpan? Remaining => TotalBytes > 0 && BytesPerSecond > 0
        ? TimeSpan.FromSeconds(Math.Min((TotalBytes - Bytes) / BytesPerSecond, TimeSpan.MaxValue.TotalSeconds / 2))
        : null;
}
