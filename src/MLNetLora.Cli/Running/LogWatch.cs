using MLNetLora.Cli.Output;
using MLNetLora.Training;

namespace MLNetLora.Cli.Running;

/// <summary>Says once that a log does not grow any more, such as on a disk that is full: the training goes on without it.</summary>
/// <param name="screen">Where it is said.</param>
/// <param name="progress">A line that has to make room.</param>
/// <param name="output">The folder of the logs.</param>
internal sealed class LogWatch(Screen screen, ProgressLine progress, string output) : TrainingCallback
{
    private readonly (string Name, Func<long> Length)[] _logs =
    [
        (RunLogs.MetricsName, () => new FileInfo(Path.Combine(output, RunLogs.MetricsName)) is { Exists: true } file ? file.Length : 0),
        (RunLogs.EventsFolder, () => Directory.Exists(Path.Combine(output, RunLogs.EventsFolder))
            ? new DirectoryInfo(Path.Combine(output, RunLogs.EventsFolder)).EnumerateFiles().Sum(file => file.Length)
            : 0),
    ];

    private readonly Dictionary<string, long> _before = [];
    private bool _wasSaid;

    /// <inheritdoc/>
    public override void OnTrainBegin(TrainingStart start) => Look();

    /// <inheritdoc/>
    public override void OnStep(TrainingProgress made)
    {
        if (!_wasSaid && Look() is { } lost)
        {
            _wasSaid = true;
            progress.Clear();
            screen.WriteWarning(FormattableString.Invariant($"{Path.Combine(output, lost)} could not be written at step {made.Step} (is the disk full?); ")
                + "the training goes on, and what could not be written is missing in the logs.");
        }
    }

    /// <summary>The log that is not longer than before; null for none.</summary>
    private string? Look()
    {
        string? lost = null;
        foreach ((string name, Func<long> length) in _logs)
        {
            long now = Length(length);
            lost ??= _before.TryGetValue(name, out long before) && now <= before ? name : null;
            _before[name] = now;
        }

        return lost;
    }

    private static long Length(Func<long> length)
    {
        try
        {
            return length();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return 0;
        }
    }
}
