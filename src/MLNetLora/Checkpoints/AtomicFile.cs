namespace MLNetLora.Checkpoints;

/// <summary>Files that are either whole or not there: written under a temporary name in the same folder, then renamed.</summary>
internal static class AtomicFile
{
    private const int TemporaryLength = 1 + 32 + 4; // of what a name becomes longer by: a dot, a GUID, .tmp

    /// <summary>Writes a file; an existing one is replaced only when the new one is whole.</summary>
    public static void Write(string path, Action<Stream> write)
    {
        string temporary = WriteTemporary(path, write);
        try
        {
            Replace(temporary, path);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Puts a file in the place of another, whose rights it takes over: a private model stays private.</summary>
    public static void Replace(string temporary, string path)
    {
        try
        {
            if (!OperatingSystem.IsWindows() && File.Exists(path))
            {
                File.SetUnixFileMode(temporary, File.GetUnixFileMode(path));
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A file system without rights, such as that of a memory stick.
        }

        File.Move(temporary, path, overwrite: true);
    }

    /// <summary>Writes a file beside the place that it is for, down to the disk; a failure leaves nothing.</summary>
    /// <returns>Its path; whoever asked for it moves or deletes it.</returns>
    public static string WriteTemporary(string path, Action<Stream> write)
    {
        string full = Path.GetFullPath(path);
        string folder = Path.GetDirectoryName(full) ?? full;
        RequireNoDevice(folder, full);
        Directory.CreateDirectory(folder);
        RequireNoDevice(RealPath.Of(folder), full);
        RemoveOld(folder, Path.GetFileName(full));
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
    private static void RequireNoDevice(string folder, string full)
    {
        folder += "/";
        if (!OperatingSystem.IsWindows() && folder.StartsWith("/dev/", StringComparison.Ordinal) && !folder.StartsWith("/dev/shm/", StringComparison.Ordinal))
        {
            throw new IOException($"{full} is a device, not a file; give the path of a file.");
        }
    }

    /// <summary>Removes what killed processes have left of this file, each as large as the file itself: a day old, since one that is being written is
    /// not.</summary>
    private static void RemoveOld(string folder, string name)
    {
        EnumerationOptions options = new() { IgnoreInaccessible = true, AttributesToSkip = FileAttributes.None };
        foreach (FileInfo old in new DirectoryInfo(folder).EnumerateFiles("*.tmp", options))
        {
            bool isOurs = old.Name.Length == name.Length + TemporaryLength
                && old.Name.StartsWith(name + ".", StringComparison.Ordinal)
                && Guid.TryParseExact(old.Name.AsSpan(name.Length + 1, 32), "N", out _);
            if (isOurs && old.LastWriteTimeUtc < DateTime.UtcNow - TimeSpan.FromDays(1))
            {
                try
                {
                    old.Delete();
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    // Somebody else's; it stays.
                }
            }
        }
    }
}
