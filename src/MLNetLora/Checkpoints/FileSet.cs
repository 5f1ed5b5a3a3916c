namespace MLNetLora.Checkpoints;

/// <summary>
/// Files of a folder that belong together, such as weights and what says how they are read. All are written under temporary names; then the one without
/// which the folder is nothing goes, the others take their places, and its successor comes last. What fails or is killed before leaves an older set as it
/// was, and in between leaves a folder that nothing opens rather than one that mixes two sets.
/// </summary>
internal sealed class FileSet : IDisposable
{
    private readonly string _folder;
    private readonly List<(string Temporary, string Path)> _written = [];
    private readonly List<string> _removed = [];

    /// <summary>A set in a folder, which is made if it is not there.</summary>
    public FileSet(string folder)
    {
        _folder = Path.GetFullPath(folder);
        Directory.CreateDirectory(_folder);
    }

    /// <summary>One set at a time takes its place: two that are written into one folder at once do not mix.</summary>
    private static readonly Lock s_commits = new();

    /// <summary>What a test says is free, in bytes; null: what the drive says.</summary>
    [ThreadStatic]
    internal static long? FreeSpace;

    /// <summary>Refuses what does not fit on the drive, before minutes are spent on it.</summary>
    /// <param name="bytes">What the files will have; an older set stays beside them until they are whole.</param>
    /// <exception cref="OptionException">The drive has less.</exception>
    public void RequireSpace(long bytes)
    {
        if (Free() is long free && free < bytes)
        {
            throw new OptionException(
                $"{_folder} lies on a drive with {Size(free)} left, and {Size(bytes)} would be written. Make room or give another folder.");
        }
    }

    private static string Size(double bytes) =>
        bytes < 1e9 ? FormattableString.Invariant($"{bytes / 1e6:F1} MB") : FormattableString.Invariant($"{bytes / 1e9:F1} GB");

    /// <summary>Writes a file of the set.</summary>
    /// <param name="name">Its name in the folder.</param>
    /// <param name="write">Writes its bytes.</param>
    public void Write(string name, Action<Stream> write)
    {
        string path = Path.Combine(_folder, name);
        _written.Add((AtomicFile.WriteTemporary(path, write), path));
    }

    /// <summary>Writes a text file of the set in UTF-8 without a mark.</summary>
    public void WriteText(string name, string text) => Write(name, stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(text)));

    /// <summary>Copies a file into the set, under its own name: as many bytes as it says that it has.</summary>
    public void Copy(string from, CancellationToken cancellation)
    {
        using FileStream source = File.OpenRead(from);
        Write(Path.GetFileName(from), stream =>
        {
            byte[] block = new byte[1 << 20];
            for (long left = source.Length; left > 0;)
            {
                cancellation.ThrowIfCancellationRequested();
                int read = source.Read(block, 0, (int)Math.Min(left, block.Length));
                if (read == 0)
                {
                    break;
                }

                stream.Write(block, 0, read);
                left -= read;
            }
        });
    }

    /// <summary>A file of an older set that this one does not have.</summary>
    public void Remove(string name) => _removed.Add(Path.Combine(_folder, name));

    /// <summary>Puts everything in its place.</summary>
    /// <param name="last">The name of the file without which the folder is nothing: config.json, adapter_config.json.</param>
    public void Commit(string last)
    {
        string key = Path.Combine(_folder, last);
        lock (s_commits)
        {
            // What cannot be replaced is found before anything is.
            if (_written.Select(file => file.Path).Concat(_removed).FirstOrDefault(Directory.Exists) is { } folder)
            {
                throw new IOException($"{folder} is a folder, where a file is to be written. Remove it, or give another folder.");
            }

            File.Delete(key);
            foreach (string path in _removed)
            {
                File.Delete(path);
            }

            foreach ((string temporary, string path) in _written.OrderBy(file => file.Path == key).ToArray())
            {
                AtomicFile.Replace(temporary, path);
                _written.Remove((temporary, path));
            }
        }
    }

    /// <summary>What the drive has left; null where it does not tell.</summary>
    private long? Free()
    {
        try
        {
            return FreeSpace ?? new DriveInfo(_folder).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return null;
        }
    }

    /// <summary>Deletes what did not come to its place.</summary>
    public void Dispose()
    {
        foreach ((string temporary, _) in _written)
        {
            File.Delete(temporary);
        }

        _written.Clear();
    }
}
