using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Scoring;

/// <summary>
/// A file of answers while it is written: under another name until all are there, a line at a time, with its manifest beside it. One process at a time.
/// </summary>
internal sealed class ScoreFile : IDisposable
{
    /// <summary>Bytes that no line of answers has.</summary>
    public const int LongestLine = 1 << 28;

    private static readonly TimeSpan s_betweenFlushes = TimeSpan.FromSeconds(10);

    private readonly string _answers;
    private readonly ScoreManifest _manifest;
    private readonly FileStream _stream;
    private long _flushed = Environment.TickCount64;

    private ScoreFile(string answers, ScoreManifest manifest, FileStream stream) => (_answers, _manifest, _stream) = (answers, manifest, stream);

    /// <summary>How many rows it has.</summary>
    public long Done { get; private set; }

    /// <summary>How many of them have an error in the place of an answer.</summary>
    public long Failed { get; private set; }

    /// <summary>The name until all answers are there.</summary>
    public static string PartialOf(string answers) => answers + ".partial";

    /// <summary>Opens what there is, or begins; half of a last line is cut off.</summary>
    /// <param name="answers">The name when all answers are there.</param>
    /// <param name="manifest">What it belongs to.</param>
    /// <param name="isNew">Whether it begins anew; what is there goes.</param>
    /// <exception cref="ConfigException">Another process writes it, or a line in it is not one of this run.</exception>
    public static ScoreFile Open(string answers, ScoreManifest manifest, bool isNew)
    {
        string partial = PartialOf(answers);
        if (!isNew && !File.Exists(partial) && File.Exists(answers))
        {
            File.Move(answers, partial); // all answers were there, and the process ended before the manifest said so
        }

        FileStream stream = OpenAlone(partial);
        try
        {
            if (isNew)
            {
                // Only now: what is there may be another process's, which writes on, and would give its name to what this one has begun.
                stream.SetLength(0);
                manifest.Write(answers);
                File.Delete(answers);
            }

            ScoreFile file = new(answers, manifest, stream);
            long whole = file.Check(partial);
            stream.SetLength(whole);
            stream.Position = whole;
            return file;
        }
        catch
        {
            stream.Dispose();
            throw;
        }
    }

    /// <summary>Adds a line; a process that is killed leaves those before it.</summary>
    /// <param name="line">The line with its end.</param>
    /// <param name="isError">Whether it has an error in the place of an answer.</param>
    public void Add(ReadOnlySpan<byte> line, bool isError)
    {
        _stream.Write(line);
        Done++;
        Failed += isError ? 1 : 0;
        if (Environment.TickCount64 - _flushed > s_betweenFlushes.TotalMilliseconds)
        {
            _stream.Flush(flushToDisk: true);
            _flushed = Environment.TickCount64;
        }
    }

    /// <summary>Gives the file its name.</summary>
    public void Finish()
    {
        _stream.Flush(flushToDisk: true);
        if (OperatingSystem.IsWindows())
        {
            _stream.Dispose(); // it gives no name to a file that is open; elsewhere nobody else opens it before it has its name
        }

        AtomicFile.Replace(PartialOf(_answers), _answers);
        (_manifest with { IsComplete = true, Failed = Failed }).Write(_answers);
        _stream.Dispose();
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    private static FileStream OpenAlone(string partial)
    {
        try
        {
            return new FileStream(partial, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException error) when (error is not (FileNotFoundException or DirectoryNotFoundException or PathTooLongException) && File.Exists(partial))
        {
            throw new ConfigException($"{partial} cannot be opened: {error.Message} Another process may be writing it.", error);
        }
    }

    /// <summary>Whether a file that was complete still has all answers.</summary>
    /// <param name="answers">The file.</param>
    /// <param name="manifest">What it belongs to.</param>
    /// <param name="rows">How many answers it has to have.</param>
    /// <exception cref="ConfigException">It has not.</exception>
    public static void RequireWhole(string answers, ScoreManifest manifest, long rows)
    {
        using FileStream stream = new(answers, FileMode.Open, FileAccess.Read, FileShare.ReadWrite, bufferSize: 0);
        ScoreFile file = new(answers, manifest, stream);
        if (file.Check(answers) != stream.Length || file.Done != rows)
        {
            throw new ConfigException(FormattableString.Invariant($"{answers} had {rows} answers, and has {file.Done} now. ")
                + "Somebody has changed the file; --overwrite begins anew.");
        }
    }

    /// <summary>Counts the lines that are there.</summary>
    /// <returns>The bytes that they take.</returns>
    private long Check(string path)
    {
        byte[] buffer = new byte[1 << 20];
        (int start, int length, long whole) = (0, 0, 0);
        bool isBroken = false;
        while (true)
        {
            int end = buffer.AsSpan(start, length).IndexOf((byte)'\n');
            if (end >= 0)
            {
                if (isBroken || ScoredRow.Read(buffer.AsSpan(start, end)) is not { } line || line.Row != _manifest.Shard.Row(Done))
                {
                    if (isBroken)
                    {
                        throw new ConfigException($"{path}, line {Done + 1} is not the answer to row {_manifest.Shard.Row(Done) + 1}, which belongs there. "
                            + "Somebody has changed the file; --overwrite begins anew.");
                    }

                    isBroken = true; // the last line may be, where the machine has stopped
                }
                else
                {
                    (Done, Failed, whole) = (Done + 1, Failed + (line.IsError ? 1 : 0), whole + end + 1);
                }

                (start, length) = (start + end + 1, length - end - 1);
                continue;
            }

            if (start > 0)
            {
                buffer.AsSpan(start, length).CopyTo(buffer);
                start = 0;
            }

            if (length == buffer.Length)
            {
                Array.Resize(ref buffer, length < LongestLine ? length * 2 : throw new ConfigException(
                    $"{path}, line {Done + 1} has more than {LongestLine >> 20} MiB, which no answer has; --overwrite begins anew."));
            }

            int read = _stream.Read(buffer, length, buffer.Length - length);
            if (read == 0)
            {
                break;
            }

            length += read;
        }

        return whole;
    }
}
