using MLNetLora.Cli.Configuration;
using MLNetLora.Training;

namespace MLNetLora.Cli.Running;

/// <summary>
/// Results of an earlier run that a new one replaces: set aside before it, removed when it begins to train, put back where it does not come to that.
/// </summary>
internal sealed class OldResults : IDisposable
{
    private readonly string _aside;
    private readonly List<(string From, string To)> _moved = [];

    /// <summary>Sets them aside.</summary>
    /// <param name="output">The folder that they are in; no other run may have it.</param>
    /// <param name="results">The files and folders.</param>
    /// <param name="inputs">What the new run reads.</param>
    /// <exception cref="ConfigException">The run reads one of them.</exception>
    public OldResults(string output, IReadOnlyList<string> results, IEnumerable<string> inputs)
    {
        _aside = Path.Combine(output, $".replaced-{Guid.NewGuid():N}");
        Removal = new Remover(this);
        if (results.Count == 0)
        {
            return;
        }

        foreach (string input in inputs)
        {
            string read = Path.GetFullPath(input);
            if (results.FirstOrDefault(result => IsWithin(read, Path.GetFullPath(result)) || (File.Exists(result) && RunFolder.AreSame(read, output)))
                is { } own)
            {
                throw new ConfigException($"overwrite would remove {own}, and the run reads {input}: give another output folder.");
            }
        }

        TrainingRun.RequireAlone(output);
        Directory.CreateDirectory(_aside);
        try
        {
            foreach (string result in results)
            {
                string to = Path.Combine(_aside, Path.GetFileName(result));
                Move(result, to);
                _moved.Add((result, to));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Removes them when the training begins.</summary>
    public TrainingCallback Removal { get; }

    /// <summary>Puts back what was not removed.</summary>
    public void Dispose()
    {
        foreach ((string from, string to) in _moved.Where(moved => Path.Exists(moved.To) && !Path.Exists(moved.From)))
        {
            Move(to, from);
        }

        _moved.Clear();
        if (Directory.Exists(_aside) && !Directory.EnumerateFileSystemEntries(_aside).Any())
        {
            Directory.Delete(_aside);
        }
    }

    private static bool IsWithin(string path, string folder) =>
        RunFolder.AreSame(path, folder) || path.StartsWith(RunFolder.Plain(folder) + Path.DirectorySeparatorChar, StringComparison.Ordinal);

    private static void Move(string from, string to)
    {
        if (Directory.Exists(from))
        {
            Directory.Move(from, to);
        }
        else
        {
            File.Move(from, to);
        }
    }

    private sealed class Remover(OldResults results) : TrainingCallback
    {
        public override void OnTrainBegin(TrainingStart start)
        {
            results._moved.Clear();
            if (Directory.Exists(results._aside))
            {
                Directory.Delete(results._aside, recursive: true);
            }
        }
    }
}
