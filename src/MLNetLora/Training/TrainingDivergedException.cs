using MLNetLora.Adapters;

namespace MLNetLora.Training;

/// <summary>Training stopped because the loss or a gradient is not a finite number. Nothing was updated with it.</summary>
/// <param name="message">Which step, and what to do.</param>
/// <param name="step">The optimizer step that could not be made, from 1.</param>
public sealed class TrainingDivergedException(string message, int step) : MLNetLoraException(message)
{
    /// <summary>The optimizer step that could not be made, from 1.</summary>
    public int Step => step;

    /// <summary>The adapter as the last good step left it; null when no adapter was being trained.</summary>
    public LoraAdapter? LastGoodAdapter { get; internal set; }
}
