namespace MLNetLora.Checkpoints;

/// <summary>Files that are either whole or not there: written under a temporary name in the same folder, then renamed.</summary>
internal static class AtomicFile
{
    /// <summary>Writes a file; an existing one is replaced only when the new one is whole.</summary>
    public static void Write(string path, Action<Stream> write)
    {
        string temporary = WriteTemporary(path, write);
        try
        {
            File.Move(temporary, path, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Writes a file beside the place that it is for, down to the disk; a failure leaves nothing.</summary>
    /// <returns>Its path; whoever asked for it moves or deletes it.</returns>
    public static string WriteTemporary(string path, Action<Stream> write)
    {
        string full = Path.GetFullPath(path);
        RequireFile(full);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        string temporary = $"{full}.{Guid.NewGuid():N}.tmp";
        try
        {
            using FileStream stream = new(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 20);
            write(stream);
            stream.Flush(flushToDisk: true);
            return temporary;
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Refuses devices, such as /dev/null: where the user may, a file would take their place, for the whole system.</summary>
    private static void RequireFile(string full)
    {
        if (!OperatingSystem.IsWindows() && full.StartsWith("/dev/", StringComparison.Ordinal) && !full.StartsWith("/dev/shm/", StringComparison.Ordinal))
        {
            throw new IOException($"{full} is a device, not a file; give the path of a file.");
        }
    }
}
