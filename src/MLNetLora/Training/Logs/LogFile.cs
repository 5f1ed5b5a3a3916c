namespace MLNetLora.Training;

/// <summary>What logs write on the way: a disk that fills costs records and no run, and is told once.</summary>
/// <param name="path">The file.</param>
/// <param name="warn">Receives the warning.</param>
internal sealed class LogFile(string path, Action<string> warn)
{
    private readonly LogTrouble _trouble = new(path, warn);

    /// <summary>Adds a whole record to the file, or nothing: what a full disk has left of one is cut off, so that the records behind it can be read.</summary>
    public void Append(ReadOnlySpan<byte> record)
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
                throw;
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _trouble.Tell(e); // the record is lost; the next one is tried
        }
    }
}

/// <summary>Tells once of a run that a file of it cannot be written.</summary>
/// <param name="path">The file.</param>
/// <param name="warn">Receives the warning.</param>
internal sealed class LogTrouble(string path, Action<string> warn)
{
    private bool _isTold;

    /// <summary>Tells it.</summary>
    public void Tell(Exception cause)
    {
        if (!_isTold)
        {
            _isTold = true;
            warn($"{path} could not be written, and the training goes on without what is missing there: {cause.Message}");
        }
    }
}
