using MLNetLora.Training;

namespace MLNetLora.Reports;

/// <summary>What is known of a run: everything that a page of it shows.</summary>
internal sealed class RunRecord
{
    /// <summary>What it began with; null where a log does not say.</summary>
    public TrainingStart? Start { get; set; }

    /// <summary>The steps, in order.</summary>
    public List<TrainingProgress> Steps { get; } = [];

    /// <summary>Checkpoints that were written, in order.</summary>
    public List<(int Step, string Folder)> Checkpoints { get; } = [];

    /// <summary>Questions and answers.</summary>
    public List<SampleAnswer> Samples { get; } = [];

    /// <summary>What was lost or looks wrong.</summary>
    public IReadOnlyList<string> Warnings { get; set; } = [];

    /// <summary>How it ended, a word of <see cref="RunOutcome"/>; null while it goes on, or where a log does not say.</summary>
    public string? Outcome { get; set; }

    /// <summary>What ended it, where that was an error.</summary>
    public string? Error { get; set; }

    /// <summary>How long it took so far.</summary>
    public TimeSpan Duration { get; set; }

    /// <summary>Whether the run goes on, and the page with it.</summary>
    public bool IsLive { get; set; }

    /// <summary>Steps of the whole run, where that is known.</summary>
    public int TotalSteps => Start?.TotalSteps ?? (Steps.Count > 0 ? Steps[^1].TotalSteps : 0);
}
