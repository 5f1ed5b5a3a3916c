namespace MLNetLora.Training;

/// <summary>Looks, before the optimizer uses them, whether loss and gradients are numbers to learn from.</summary>
internal static class DivergenceCheck
{
    private const string Remedy = "training has diverged. Lower LearningRate, or check the base checkpoint for values that are not finite.";

    // Before the first step there is no learning rate to blame.
    private const string NothingLearned =
        "the loss does not depend on what is trained, as on the router where a token has one expert whose weight is always 1, or numbers inside overflow. "
        + "Train other layers (TargetModules, TargetParameters), or check the base checkpoint.";

    private const string InFloat16 = $"numbers inside are beyond float16's 65,504. Set {nameof(TrainingOptions.ComputeType)} to "
        + $"{nameof(Runtime.ComputeType.BFloat16)} or {nameof(Runtime.ComputeType.Float32)}.";

    /// <summary>Throws where they are not.</summary>
    /// <param name="state">What was done before.</param>
    /// <param name="loss">The window's loss.</param>
    /// <param name="norm">Global norm of its gradients, before clipping.</param>
    /// <exception cref="TrainingDivergedException">The loss or a gradient is not finite, or all gradients are zero at a loss that is not.</exception>
    public static void Require(TrainingState state, double loss, float norm)
    {
        int step = state.Step + 1;
        if (!double.IsFinite(loss))
        {
            throw Error(state, step, $"The loss of step {step} is {loss}: "
                + (state.Scale.IsDynamic ? $"{InFloat16} With those this may also be training that has diverged: then lower LearningRate." : Remedy));
        }

        if (!float.IsFinite(norm))
        {
            throw Error(state, step, $"A gradient of step {step} is not a finite number: {Remedy}");
        }

        if (norm == 0 && loss > 1e-3)
        {
            throw Error(state, step, FormattableString.Invariant($"The gradient of step {step} is exactly zero at a loss of {loss:F3}: ")
                + (state.Made == 0 ? NothingLearned : "numbers inside have overflowed and training has diverged. Lower LearningRate."));
        }
    }

    /// <summary>Throws where steps are skipped one after another, whatever the loss scale.</summary>
    /// <param name="state">What was done.</param>
    /// <exception cref="TrainingDivergedException">The loss scale has become too small.</exception>
    public static void RequireScale(TrainingState state)
    {
        if (state.Scale.IsExhausted)
        {
            throw Error(state, state.Step,
                $"The gradients of step {state.Step} and of the steps before are not finite numbers, however small the loss scale: {InFloat16}");
        }
    }

    /// <summary>Throws where a run has ended and every step of it was skipped.</summary>
    /// <param name="state">What was done.</param>
    /// <exception cref="TrainingDivergedException">Nothing was learned.</exception>
    public static void RequireAnyStep(TrainingState state)
    {
        if (state.Step > 0 && state.Made == 0)
        {
            throw Error(state, state.Step, $"Each of the {state.Step} steps was skipped, since its gradients overflowed in float16; after more steps the loss "
                + $"scale might have been small enough. Train longer, or set {nameof(TrainingOptions.ComputeType)} to "
                + $"{nameof(Runtime.ComputeType.BFloat16)} or {nameof(Runtime.ComputeType.Float32)}.");
        }
    }

    /// <summary>What is to be said of a run many of whose steps were skipped: it has learned less than it shows.</summary>
    public static IEnumerable<string> Warnings(TrainingState state) => state.Skipped * 10 > state.Step
        ? [$"{state.Skipped} of {state.Step} steps were skipped, since gradients overflowed in float16: the learning rate did not come down to its end."]
        : [];

    private static TrainingDivergedException Error(TrainingState state, int step, string message) => new(message, step, state.Made == 0 ? 0 : state.Step);
}
