namespace MLNetLora.Bench;

/// <summary>Waits that end early without an exception.</summary>
internal static class SoakPause
{
    /// <summary>Waits for a while, or until it is cancelled.</summary>
    /// <returns>Whether it may go on.</returns>
    public static async Task<bool> ForAsync(TimeSpan time, CancellationToken cancellation)
    {
        await Task.Delay(time, cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        return !cancellation.IsCancellationRequested;
    }
}
