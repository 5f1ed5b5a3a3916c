namespace MLNetLora.Training;

/// <summary>Looks, before the optimizer uses them, whether loss and gradients are numbers to learn from.</summary>
internal static class DivergenceCheck
{
    private const string Remedy = "training has diverged. Lower LearningRate, or check the base checkpoint for values that are not finite.";

    // Before the first step there is no learning rate to blame.
    private const string NothingLearned =
        "the loss does not depend on what is trained, as on the router where a token has one expert whose weight is always 1, or numbers inside overflow. "
        + "Train other layers (TargetModules, TargetParameters), or check the base checkpoint.";

    /// <summary>Throws where they are not.</summary>
    /// <param name="step">The step that they are for, from 1.</param>
    /// <param name="loss">The window's loss.</param>
    /// <param name="norm">Global norm of its gradients, before clipping.</param>
    /// <exception cref="TrainingDivergedException">The loss or a gradient is not finite, or all gradients are zero at a loss that is not.</exception>
    public static void Require(int step, double loss, float norm)
    {
        if (!double.IsFinite(loss))
        {
            throw new TrainingDivergedException($"The loss of step {step} is {loss}: {Remedy}", step);
        }

        if (!float.IsFinite(norm))
        {
            throw new TrainingDivergedException($"A gradient of step {step} is not a finite number: {Remedy}", step);
        }

        if (norm == 0 && loss > 1e-3)
        {
            throw new TrainingDivergedException(
                FormattableString.Invariant($"The gradient of step {step} is exactly zero at a loss of {loss:F3}: ")
                + (step == 1 ? NothingLearned : "numbers inside have overflowed and training has diverged. Lower LearningRate."),
                step);
        }
    }

    /// <summary>Throws where steps are skipped one after another, whatever the loss scale.</summary>
    /// <param name="step">The last step, from 1.</param>
    /// <param name="scale">The loss scale after it.</param>
    /// <exception cref="TrainingDivergedException">The loss scale has become too small.</exception>
    public static void Require(int step, LossScale scale)
    {
        if (scale.IsExhausted)
        {
            throw new TrainingDivergedException(
                $"The gradients of step {step} and of the steps before are not finite numbers, however small the loss scale: numbers inside are beyond "
                + $"float16's 65,504. Set {nameof(TrainingOptions.ComputeType)} to {Runtime.ComputeType.BFloat16} or {Runtime.ComputeType.Float32}.",
                step);
        }
    }
}
