namespace MLNetLora.Checkpoints;

/// <summary>Files that are either whole or not there: written under a temporary name in the same folder, then renamed.</summary>
internal static class AtomicFile
{
    /// <summary>Writes a file; an existing one is replaced only when the new one is whole.</summary>
    public static void Write(string path, Action<Stream> write)
    {
        string full = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        string temporary = $"{full}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (FileStream stream = new(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 20))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, full, overwrite: true);
        }
        catch
        {
            File.Delete(temporary);
            throw;
        }
    }

    /// <summary>Writes a text file in UTF-8 without a mark.</summary>
    public static void WriteText(string path, string text) => Write(path, stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(text)));

    /// <summary>Copies a file.</summary>
    public static void Copy(string from, string to)
    {
        using FileStream source = File.OpenRead(from);
        Write(to, source.CopyTo);
    }
}
