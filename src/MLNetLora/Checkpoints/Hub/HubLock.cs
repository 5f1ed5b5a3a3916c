namespace MLNetLora.Checkpoints;

/// <summary>
/// The lock of a blob. An open file that nobody else may open: that is flock on Unix and a sharing violation on Windows, and the filelock of Python, which
/// huggingface_hub takes on the same file, waits for both as this waits for that one.
/// </summary>
internal static class HubLock
{
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(100);

    /// <summary>Waits for the lock.</summary>
    /// <param name="path">The file.</param>
    /// <param name="waits">Called once when somebody else has it.</param>
    /// <param name="cancellation">Ends the waiting.</param>
    /// <returns>The lock, until it is disposed of.</returns>
    /// <exception cref="IOException">The file cannot be made.</exception>
    public static async Task<IDisposable> TakeAsync(string path, Action waits, CancellationToken cancellation)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        for (bool first = true; ; first = false)
        {
            cancellation.ThrowIfCancellationRequested();
            try
            {
                FileStream file = new(path, Options());
                if (File.Exists(path))
                {
                    return file;
                }

                file.Dispose(); // whoever had it before has deleted it, as some versions of filelock do: nobody else will look at this one
            }
            catch (IOException e) when (IsTaken(e))
            {
                if (first)
                {
                    waits();
                }
            }

            await Task.Delay(s_pause, cancellation).ConfigureAwait(false);
        }
    }

    private static FileStreamOptions Options()
    {
        FileStreamOptions options = new() { Mode = FileMode.OpenOrCreate, Access = FileAccess.ReadWrite, Share = FileShare.None, BufferSize = 0 };
        if (!OperatingSystem.IsWindows())
        {
            // As huggingface_hub: the users of one cache may be a group.
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead;
        }

        return options;
    }

    /// <summary>A sharing or lock violation on Windows, EWOULDBLOCK elsewhere.</summary>
    private static bool IsTaken(IOException e) => OperatingSystem.IsWindows()
        ? (e.HResult & 0xffff) is 32 or 33
        : e.HResult == (OperatingSystem.IsMacOS() ? 35 : 11);
}
