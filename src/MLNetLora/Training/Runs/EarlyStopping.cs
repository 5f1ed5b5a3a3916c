namespace MLNetLora.Training;

/// <summary>What the validation losses of a run say: which step was the best, and whether it is worth to go on. Both follow from the steps made, so a run that
/// is resumed needs no memory of its own for them.</summary>
internal static class EarlyStopping
{
    /// <summary>The step with the lowest validation loss, the first of equal ones; null where nothing was evaluated.</summary>
    public static TrainingProgress? Best(IEnumerable<TrainingProgress> steps) =>
        steps.Where(step => step.ValidationLoss is { } loss && double.IsFinite(loss)).MinBy(step => step.ValidationLoss);

    /// <summary>Whether the last evaluations were no better than the best one before them, as often as the patience allows: transformers'
    /// EarlyStoppingCallback.</summary>
    /// <param name="steps">The steps made.</param>
    /// <param name="options">Patience and threshold.</param>
    public static bool IsDue(IReadOnlyList<TrainingProgress> steps, TrainingOptions options)
    {
        if (options.EarlyStoppingPatience is not { } patience || steps.Count == 0 || steps[^1].ValidationLoss is null)
        {
            return false;
        }

        double best = double.PositiveInfinity;
        int without = 0;
        foreach (double loss in steps.Select(step => step.ValidationLoss).OfType<double>())
        {
            without = best - loss > options.EarlyStoppingThreshold ? 0 : without + 1;
            best = loss < best ? loss : best;
        }

        return without >= patience;
    }
}
