using System.Text;
using MLNetLora.Checkpoints;
using MLNetLora.Training;

namespace MLNetLora.Reports;

/// <summary>
/// Writes a page of a run, run.html: curves, figures, options, data, warnings, checkpoints, answers before and after. One file that needs no network, for
/// light and dark screens, wide and narrow.
/// </summary>
/// <remarks>
/// The page is written when the run begins, after each validation and each checkpoint, at most every 30 s in between, and at the end; each time as a whole, so
/// that a browser never sees half of one. While the run goes on, an open page loads itself anew every 30 s. A run that is resumed takes its earlier steps
/// from metrics.jsonl in the same folder (see <see cref="JsonLinesLog"/>), where there is one.
/// </remarks>
public sealed class RunReport : TrainingCallback
{
    /// <summary>The name of the page.</summary>
    public const string FileName = "run.html";

    /// <summary>The log of which a resumed run takes its earlier steps.</summary>
    internal const string LogName = "metrics.jsonl";

    private static readonly TimeSpan s_every = TimeSpan.FromSeconds(30);

    private readonly string _folder;
    private readonly TimeProvider _time;
    private RunRecord _run = new();
    private bool _isWritten;
    private long _written;
    private LogTrouble? _trouble;

    /// <summary>A report; nothing is written before a run begins.</summary>
    /// <param name="folder">Where run.html goes; made if it is not there.</param>
    public RunReport(string folder)
        : this(folder, TimeProvider.System)
    {
    }

    internal RunReport(string folder, TimeProvider time)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(folder);
        (_folder, _time) = (Path.GetFullPath(folder), time);
    }

    /// <summary>The page.</summary>
    public string PagePath => Path.Combine(_folder, FileName);

    /// <summary>Writes a page from a log: that of <see cref="JsonLinesLog"/>, or the trainer_state.json of transformers.</summary>
    /// <param name="log">The log: metrics.jsonl or trainer_state.json, under whatever name.</param>
    /// <param name="folder">Where run.html goes; null (default): beside the log.</param>
    /// <returns>The page.</returns>
    /// <exception cref="DatasetException">The file is no such log; the message says where it is wrong.</exception>
    public static string FromLog(string log, string? folder = null)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(log);
        string full = Path.GetFullPath(log);
        RunReport report = new(folder ?? Path.GetDirectoryName(full)!) { _run = LogReader.Read(full) };
        report.Write();
        return report.PagePath;
    }

    /// <summary>Adds questions and answers, below those that are there already; the page of a run that has begun is written anew.</summary>
    /// <param name="samples">The answers; what is in them is shown as text, whatever it is.</param>
    public void AddSamples(IEnumerable<SampleAnswer> samples)
    {
        ArgumentNullException.ThrowIfNull(samples);
        _run.Samples.AddRange(samples);
        if (_run.Start is not null)
        {
            Write();
        }
    }

    /// <inheritdoc/>
    public override void OnTrainBegin(TrainingStart start)
    {
        ArgumentNullException.ThrowIfNull(start);

        // What was added before the run is of this run, what an earlier run left is not.
        RunRecord run = new() { Start = start, Warnings = start.Warnings, Duration = start.ElapsedBefore, IsLive = true };
        if (_run.Start is null)
        {
            run.Samples.AddRange(_run.Samples);
        }

        if (start.FirstStep > 1)
        {
            AddEarlier(run, start);
        }

        _run = run;
        _trouble = new LogTrouble(PagePath, start.Warn);
        Write();
    }

    /// <inheritdoc/>
    public override void OnStep(TrainingProgress progress)
    {
        ArgumentNullException.ThrowIfNull(progress);
        _run.Steps.Add(progress);
        _run.Duration = progress.Elapsed;
        if (progress.ValidationLoss is not null || _time.GetElapsedTime(_written) >= s_every)
        {
            Write();
        }
    }

    /// <inheritdoc/>
    public override void OnSave(int savedStep, string folder)
    {
        _run.Checkpoints.Add((savedStep, folder));
        Write();
    }

    /// <inheritdoc/>
    public override void OnTrainEnd(TrainingSummary? summary, Exception? failure)
    {
        _run.IsLive = false;
        _run.Outcome = RunOutcome.Of(summary, failure);
        _run.Error = failure?.Message;
        if (summary is not null)
        {
            _run.Duration = summary.Duration;
            _run.Warnings = [.. _run.Warnings.Union(summary.Warnings)];
        }

        Write();
    }

    /// <summary>Adds what was before a run was resumed; a log that cannot be read is no reason not to go on.</summary>
    private void AddEarlier(RunRecord run, TrainingStart start)
    {
        int firstStep = start.FirstStep;
        run.Steps.AddRange(start.EarlierSteps);
        string log = Path.Combine(_folder, LogName);
        try
        {
            if (File.Exists(log))
            {
                RunRecord before = LogReader.Read(log);
                run.Steps.AddRange(start.EarlierSteps.Count > 0 ? [] : before.Steps.Where(step => step.Step < firstStep));
                run.Checkpoints.AddRange(before.Checkpoints.Where(checkpoint => checkpoint.Step < firstStep));
            }
        }
        catch (DatasetException e)
        {
            string missing = start.EarlierSteps.Count > 0 ? "checkpoints" : "steps";
            run.Warnings = [.. run.Warnings, $"The {missing} before {firstStep} are missing here. {e.Message}"];
        }
    }

    private void Write()
    {
        string html = RunPage.Of(_run);
        try
        {
            AtomicFile.Write(PagePath, stream => stream.Write(Encoding.UTF8.GetBytes(html)));
        }
        catch (Exception e) when (_isWritten && (e is IOException or UnauthorizedAccessException))
        {
            _trouble?.Tell(e); // a disk that fills costs the page's news, and no run
        }

        _isWritten = true; // the first time, a folder that cannot be written to is an error
        _written = _time.GetTimestamp();
    }
}
