using MLNetLora.Adapters;

namespace MLNetLora.Training;

/// <summary>
/// Training ended before its last step, after at least one whole one: what was learned until then is not lost. Errors before the first whole step
/// come as they are, without this one around them.
/// The cause, be it of the runtime, of a file or thrown in a callback, is the <see cref="Exception.InnerException"/>.
/// </summary>
public class TrainingException : MLNetLoraException
{
    private readonly List<string> _kept = [];

    /// <summary>An error in or after a step.</summary>
    /// <param name="message">Which step, why, and what to do.</param>
    /// <param name="step">The optimizer step that was under way, from 1.</param>
    /// <param name="lastGoodStep">The last whole step; 0 when none was made.</param>
    /// <param name="inner">The cause, where another exception was the cause.</param>
    public TrainingException(string message, int step, int lastGoodStep, Exception? inner = null)
        : base(message, inner)
    {
        Step = step;
        LastGoodStep = lastGoodStep;
    }

    /// <summary>The optimizer step that was under way, from 1: the one that could not be made, or the one after which a callback, a log handler or
    /// the validation failed.</summary>
    public int Step { get; }

    /// <summary>The last whole step; 0 when none was made.</summary>
    public int LastGoodStep { get; }

    /// <summary>The adapter as <see cref="LastGoodStep"/> left it; null when no step was made or no adapter was being trained.</summary>
    public LoraAdapter? LastGoodAdapter { get; private set; }

    /// <summary>Which step, why, and where what was learned until then is.</summary>
    public override string Message => string.Join(' ', [base.Message, .. _kept]);

    internal static TrainingException In(int step, int total, int lastGoodStep, Exception cause) =>
        new($"Training ended {(step == lastGoodStep ? "after" : "in")} step {step} of {total} ({cause.GetType().Name}): {cause.Message}", step, lastGoodStep,
            cause);

    internal void Keep(LoraAdapter adapter)
    {
        LastGoodAdapter = adapter;
        Keep($"The adapter of step {LastGoodStep} is kept in this exception: e.{nameof(LastGoodAdapter)}.{nameof(LoraAdapter.SaveAsPeft)}(\"folder\") saves "
            + "it.");
    }

    internal void Keep(string where) => _kept.Add(where);
}

/// <summary>Training stopped because the loss or a gradient is not a finite number. Nothing was updated with it.</summary>
public sealed class TrainingDivergedException : TrainingException
{
    /// <summary>An error in a step.</summary>
    /// <param name="message">Which step, and what to do.</param>
    /// <param name="step">The optimizer step that could not be made, from 1.</param>
    public TrainingDivergedException(string message, int step)
        : base(message, step, step - 1)
    {
    }

    internal TrainingDivergedException(string message, int step, int lastGoodStep)
        : base(message, step, lastGoodStep)
    {
    }
}
