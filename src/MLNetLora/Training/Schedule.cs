namespace MLNetLora.Training;

/// <summary>The learning rate of every step, in transformers' formulas (get_scheduler).</summary>
internal static class Schedule
{
    /// <summary>Optimizer steps of a run over a number of rows.</summary>
    public static int TotalSteps(int rows, TrainingOptions options) =>
        options.MaximumSteps ?? (int)Math.Min(int.MaxValue, (long)options.NumberOfEpochs * StepsPerEpoch(rows, options));

    /// <summary>Optimizer steps of an epoch; the short last window counts.</summary>
    public static int StepsPerEpoch(int rows, TrainingOptions options)
    {
        long batches = ((long)rows + options.BatchSize - 1) / options.BatchSize;
        return (int)((batches + options.GradientAccumulationSteps - 1) / options.GradientAccumulationSteps);
    }

    /// <summary>Whether the validation rows are evaluated after a step: every so many steps or at the end of each epoch, and at the end.</summary>
    /// <param name="step">Optimizer step, from 1.</param>
    /// <param name="total">Optimizer steps of the run.</param>
    /// <param name="rows">Rows of an epoch.</param>
    /// <param name="options">How often.</param>
    public static bool Evaluates(int step, int total, int rows, TrainingOptions options)
    {
        int every = options.EvaluationSteps > 0 ? options.EvaluationSteps : StepsPerEpoch(rows, options);
        return step % every == 0 || step == total;
    }

    /// <summary>Whether a checkpoint is written after a step: every so many steps, at the end of each epoch, or both.</summary>
    /// <param name="step">Optimizer step, from 1.</param>
    /// <param name="rows">Rows of an epoch.</param>
    /// <param name="options">How often.</param>
    public static bool Saves(int step, int rows, TrainingOptions options)
    {
        int epoch = StepsPerEpoch(rows, options);
        return options.SaveSteps is not 0 && (step % (options.SaveSteps ?? epoch) == 0 || (options.SaveEveryEpoch && step % epoch == 0));
    }

    /// <summary>Warm-up steps of a run.</summary>
    public static int WarmupSteps(int total, TrainingOptions options) =>
        options.WarmupSteps > 0 ? options.WarmupSteps : (int)Math.Ceiling(total * options.WarmupRatio);

    /// <summary>The learning rate of a step.</summary>
    /// <param name="step">Optimizer step, from 0.</param>
    /// <param name="total">Optimizer steps of the run.</param>
    /// <param name="options">Peak rate, shape, warm-up.</param>
    public static double LearningRate(int step, int total, TrainingOptions options)
    {
        int warmup = WarmupSteps(total, options);
        if (step < warmup)
        {
            return options.LearningRate * step / Math.Max(1, warmup);
        }

        double progress = (double)(step - warmup) / Math.Max(1, total - warmup);
        return options.LearningRate * options.Schedule switch
        {
            LearningRateSchedule.Constant => 1,
            LearningRateSchedule.Cosine => Math.Max(0, 0.5 * (1 + Math.Cos(Math.PI * progress))),
            _ => Math.Max(0, (double)(total - step) / Math.Max(1, total - warmup)),
        };
    }
}
