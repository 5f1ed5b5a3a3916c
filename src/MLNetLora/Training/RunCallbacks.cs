using System.Runtime.ExceptionServices;

namespace MLNetLora.Training;

/// <summary>The callbacks of one run, and the meter, which follows every run.</summary>
/// <param name="callbacks">In the order in which they are called.</param>
/// <param name="warn">Receives what they warn of, at any time.</param>
internal sealed class RunCallbacks(IReadOnlyList<TrainingCallback> callbacks, Action<string> warn)
{
    private readonly List<TrainingCallback> _begun = [];
    private readonly List<string> _warnings = [];

    /// <summary>What they have warned of so far: a log that cannot be written, for one.</summary>
    public IReadOnlyList<string> Warnings => _warnings;

    /// <summary>Before the first step.</summary>
    public void Begin(TrainingStart start)
    {
        start = start with { Warn = Warn };
        foreach (TrainingCallback callback in (IEnumerable<TrainingCallback>)[new TrainingMetrics.Run(), .. callbacks])
        {
            callback.OnTrainBegin(start);
            _begun.Add(callback);
        }
    }

    /// <summary>After a step.</summary>
    public void Step(TrainingProgress progress)
    {
        foreach (TrainingCallback callback in _begun)
        {
            callback.OnStep(progress);
        }
    }

    /// <summary>When a checkpoint of the run is whole.</summary>
    /// <param name="step">The step whose weights it has.</param>
    /// <param name="folder">Its folder.</param>
    public void Saved(int step, string folder)
    {
        foreach (TrainingCallback callback in _begun)
        {
            callback.OnSave(step, folder);
        }
    }

    private void Warn(string warning)
    {
        _warnings.Add(warning);
        warn(warning);
    }

    /// <summary>When no further step will be made; what is said a second time is heard by nobody. All hear it, whatever one of them throws: the first
    /// exception comes out where the run had no error of its own.</summary>
    public void End(TrainingSummary? summary, Exception? error)
    {
        TrainingCallback[] told = [.. _begun];
        _begun.Clear();
        Exception? first = null;
        foreach (TrainingCallback callback in told)
        {
            try
            {
                callback.OnTrainEnd(summary, error);
            }
            catch (Exception e)
            {
                first ??= e;
            }
        }

        if (first is not null && error is null)
        {
            ExceptionDispatchInfo.Throw(first);
        }
    }
}
