using System.Globalization;

namespace MLNetLora.Training;

/// <summary>
/// The folder of a run, which one process at a time writes to: its checkpoints, checkpoint-STEP as transformers' Trainer calls them, each of them whole or
/// not there. A new one is written under another name and renamed; one that goes is renamed before it is deleted.
/// </summary>
internal sealed class RunFolder : IDisposable
{
    internal const string Prefix = "checkpoint-";
    private const string LockName = ".mlnetlora.lock";
    private const string Unfinished = ".checkpoint-"; // and a GUID

    private readonly FileStream _lock;
    private readonly bool _isNew;

    private RunFolder(string path, FileStream held, bool isNew)
    {
        Path = path;
        _lock = held;
        _isNew = isNew;
    }

    /// <summary>The folder, in full.</summary>
    public string Path { get; }

    /// <summary>Makes the folder where it is not there, and takes it: nobody else can until this is disposed or the process ends. What killed processes left
    /// half-written is removed.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="option">The option that named it, for messages.</param>
    /// <exception cref="OptionException">It cannot be written to, or another run has it.</exception>
    public static RunFolder Open(string folder, string option)
    {
        string full;
        bool isNew;
        FileStream held;
        try
        {
            full = Plain(folder);
            isNew = !Directory.Exists(full);
            Directory.CreateDirectory(full);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new OptionException($"{option} is {folder}, which cannot be written to: {e.Message} Give a folder for the run.", e);
        }

        try
        {
            held = new FileStream(System.IO.Path.Combine(full, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, 1,
                FileOptions.DeleteOnClose);
        }
        catch (IOException e) when (IsHeld(e))
        {
            throw new OptionException($"{option} is {full}, and another run is writing to it. Wait for its end, or give each run a folder of its own.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OptionException($"{option} is {full}, which cannot be written to: {e.Message} Give a folder for the run.", e);
        }

        RunFolder opened = new(full, held, isNew);
        foreach (string left in Directory.EnumerateDirectories(full, Unfinished + "*"))
        {
            TryDelete(left);
        }

        return opened;
    }

    /// <summary>The checkpoints of a folder by their steps, the newest first.</summary>
    /// <param name="folder">The folder of a run.</param>
    public static IEnumerable<(int Step, string Folder)> Checkpoints(string folder) => !Directory.Exists(folder) ? [] :
        Directory.EnumerateDirectories(folder, Prefix + "*")
            .Select(path => (Step: StepOf(path), Folder: path))
            .Where(checkpoint => checkpoint.Step is not null)
            .Select(checkpoint => (checkpoint.Step!.Value, checkpoint.Folder))
            .OrderByDescending(checkpoint => checkpoint.Item1);

    /// <summary>Whether there is something to go on from in a folder: a checkpoint that it is or holds, or that the run in it holds.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="output">The folder of the run that is to go on, which stands for itself alone.</param>
    public static bool Holds(string folder, string? output) => File.Exists(System.IO.Path.Combine(folder, SavedRun.FileName))
        || Checkpoints(folder).Any() || (!AreSame(folder, output) && RunsIn(folder).Length > 0);

    /// <summary>The folders that a folder of runs holds: those in it that have checkpoints.</summary>
    /// <param name="folder">The folder.</param>
    public static string[] RunsIn(string folder)
    {
        EnumerationOptions readable = new();
        return !Directory.Exists(folder) ? [] :
        [
            .. Directory.EnumerateDirectories(folder, "*", readable)
                .Where(inside => Directory.EnumerateDirectories(inside, Prefix + "*", readable).Any(path => StepOf(path) is not null))
                .Order(StringComparer.Ordinal),
        ];
    }

    /// <summary>Whether two paths are one folder, as far as names tell.</summary>
    public static bool AreSame(string? one, string? other) => one is not null && other is not null && string.Equals(Plain(one), Plain(other),
        OperatingSystem.IsWindows() ? StringComparison.OrdinalIgnoreCase : StringComparison.Ordinal);

    /// <summary>A path in full, without a separator at its end.</summary>
    public static string Plain(string path) => System.IO.Path.TrimEndingDirectorySeparator(System.IO.Path.GetFullPath(path));

    /// <summary>Where the checkpoint of a step is.</summary>
    public string Of(int step) => System.IO.Path.Combine(Path, Prefix + step.ToString(CultureInfo.InvariantCulture));

    /// <summary>Writes the checkpoint of a step, in the place of one that is there.</summary>
    /// <param name="step">The step.</param>
    /// <param name="write">Writes its files into a folder that is there and empty.</param>
    /// <exception cref="IOException">The disk is full, for one; an older checkpoint of the step is then as it was.</exception>
    public void Save(int step, Action<string> write)
    {
        string temporary = System.IO.Path.Combine(Path, $"{Unfinished}{Guid.NewGuid():N}");
        string before = System.IO.Path.Combine(Path, $"{Unfinished}{Guid.NewGuid():N}");
        Directory.CreateDirectory(temporary);
        try
        {
            write(temporary);
            if (Directory.Exists(Of(step)))
            {
                Directory.Move(Of(step), before);
            }

            Directory.Move(temporary, Of(step));
            TryDelete(before);
        }
        catch
        {
            if (Directory.Exists(before) && !Directory.Exists(Of(step)))
            {
                Directory.Move(before, Of(step));
            }

            TryDelete(temporary);
            throw;
        }
    }

    /// <summary>Removes a checkpoint; at no time there is a half one.</summary>
    public void Remove(int step)
    {
        if (Directory.Exists(Of(step)))
        {
            string going = System.IO.Path.Combine(Path, $"{Unfinished}{Guid.NewGuid():N}");
            Directory.Move(Of(step), going);
            TryDelete(going);
        }
    }

    /// <summary>Lets others take the folder. One that was made for this run and into which nothing was written goes: what is wrong with the rows, for one,
    /// leaves nothing behind.</summary>
    public void Dispose()
    {
        _lock.Dispose();
        try
        {
            if (_isNew && !Directory.EnumerateFileSystemEntries(Path).Any())
            {
                Directory.Delete(Path);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Somebody else has it by now.
        }
    }

    private static int? StepOf(string path) =>
        int.TryParse(System.IO.Path.GetFileName(path).AsSpan(Prefix.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int step) ? step : null;

    /// <summary>Whether the error is that of a file that somebody else has: on Windows by its number, on Unix .NET's own lock.</summary>
    private static bool IsHeld(IOException e)
    {
        const int sharing = unchecked((int)0x80070020); // ERROR_SHARING_VIOLATION
        const int again = 11; // EAGAIN on Linux
        const int againMac = 35; // and on macOS
        return e.HResult is sharing or again or againMac;
    }

    private static void TryDelete(string folder)
    {
        try
        {
            if (Directory.Exists(folder))
            {
                Directory.Delete(folder, recursive: true);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It takes room, and nothing reads it; the next run tries again.
        }
    }
}
