namespace MLNetLora.Checkpoints;

/// <summary>
/// Small files of folders that nobody vouches for, read whole, but never more of them than such a file can have, whatever length they claim: a link to
/// /dev/zero claims none.
/// </summary>
internal static class BoundedFile
{
    private const int FirstBytes = 4096;

    /// <summary>The bytes of a file; null where it has more than it may.</summary>
    /// <param name="path">The file.</param>
    /// <param name="mostBytes">How many it may have.</param>
    /// <exception cref="IOException">It cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">It may not be read.</exception>
    public static ReadOnlyMemory<byte>? Read(string path, int mostBytes)
    {
        using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
        long claimed = stream.CanSeek ? stream.Length : 0;
        if (claimed > mostBytes)
        {
            return null;
        }

        byte[] bytes = new byte[Math.Max(claimed, FirstBytes) + 1];
        int count = 0;
        for (int read; (read = stream.Read(bytes, count, bytes.Length - count)) > 0;)
        {
            count += read;
            if (count > mostBytes)
            {
                return null;
            }

            if (count == bytes.Length)
            {
                Array.Resize(ref bytes, (int)Math.Min(2L * bytes.Length, mostBytes + 1L));
            }
        }

        return bytes.AsMemory(0, count);
    }

    /// <summary>The text of a file in UTF-8, where what is not becomes U+FFFD, or in what its byte order mark says; null where it has more than it
    /// may.</summary>
    /// <inheritdoc cref="Read" path="/exception"/>
    public static string? ReadText(string path, int mostBytes)
    {
        if (Read(path, mostBytes) is not { } bytes)
        {
            return null;
        }

        using StreamReader reader = new(new MemoryStream(bytes.ToArray(), writable: false));
        return reader.ReadToEnd();
    }
}
