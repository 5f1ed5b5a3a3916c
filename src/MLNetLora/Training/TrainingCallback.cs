namespace MLNetLora.Training;

/// <summary>
/// Something that follows a run: a log, a report, a progress line, a program's own. Given to the trainer in its option Callbacks. The peers' name:
/// TrainerCallback.
/// </summary>
/// <remarks>
/// <para>Every method is called on the thread that trains, in the order of the list, and the training waits for it. An exception ends the run: one of
/// <see cref="OnTrainBegin"/> comes out of Fit as it is, since no step was made; one of any other method comes as a <see cref="TrainingException"/>, which
/// keeps what was learned.</para>
/// <para>For each <see cref="OnTrainBegin"/> that returned, <see cref="OnTrainEnd"/> is called exactly once, however the run ends. One callback object may
/// follow several runs, one after another.</para>
/// </remarks>
public abstract class TrainingCallback
{
    /// <summary>Called once, before the first step of this process: base, adapter, options and rows were looked at, and the rows are tokens.</summary>
    /// <param name="start">What will be trained.</param>
    public virtual void OnTrainBegin(TrainingStart start)
    {
    }

    /// <summary>Called after every optimizer step, and after the validation that followed it.</summary>
    /// <param name="progress">The step.</param>
    public virtual void OnStep(TrainingProgress progress)
    {
    }

    /// <summary>Called when a checkpoint of the run is whole on the disk: after the <see cref="OnStep"/> of its step and before that of the next one, beside
    /// which it is written. With full fine-tuning that is also the trained model in its folder.</summary>
    /// <param name="savedStep">The optimizer step whose weights it has.</param>
    /// <param name="folder">Its folder.</param>
    public virtual void OnSave(int savedStep, string folder)
    {
    }

    /// <summary>Called once, when no further step will be made: after the last one, after a cancellation, after an error. Exactly one of the two is
    /// null.</summary>
    /// <param name="summary">How the run went; <see cref="TrainingSummary.WasCancelled"/> where it was cancelled after a step.</param>
    /// <param name="failure">What ended it: an error, or an <see cref="OperationCanceledException"/> where it was cancelled before its first step. It comes out
    /// of Fit whatever is done here; an exception that is thrown here besides is dropped.</param>
    public virtual void OnTrainEnd(TrainingSummary? summary, Exception? failure)
    {
    }
}
