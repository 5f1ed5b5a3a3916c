namespace MLNetLora.Training;

/// <summary>What logs write on the way: a disk that fills costs records and no run.</summary>
internal static class LogFiles
{
    /// <summary>Adds a whole record to a file, or nothing: what a full disk has left of one is cut off, so that the records behind it can be read.</summary>
    public static void Append(string path, ReadOnlySpan<byte> record)
    {
        try
        {
            using FileStream stream = new(path, FileMode.Append, FileAccess.Write, FileShare.Read, bufferSize: 0);
            long before = stream.Position;
            try
            {
                stream.Write(record);
            }
            catch (IOException)
            {
                stream.SetLength(before);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The record is lost; the next one is tried.
        }
    }
}
