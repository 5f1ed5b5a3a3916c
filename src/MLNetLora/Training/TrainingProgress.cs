namespace MLNetLora.Training;

/// <summary>One optimizer step as it was made; handed to the progress callback right after it.</summary>
/// <param name="Step">Optimizer step, from 1.</param>
/// <param name="TotalSteps">Optimizer steps of the whole run.</param>
/// <param name="Epoch">Epochs done after this step, fractional: 0.375 after 3 of 8 rows.</param>
/// <param name="Loss">Sum of the window's token losses over its label tokens, in nats.</param>
/// <param name="GradientNorm">Global L2 norm of the gradients before clipping; not a finite number for a step that <see cref="WasSkipped"/>.</param>
/// <param name="LearningRate">The rate of this step.</param>
/// <param name="LabelTokens">Label tokens in the window.</param>
/// <param name="Tokens">Non-padding tokens in the window.</param>
/// <param name="TokensPerSecond">Non-padding tokens over the time of this step.</param>
/// <param name="Elapsed">Time since the run began.</param>
/// <param name="Remaining">Estimate of the time that is left, from the average so far.</param>
/// <param name="ValidationLoss">Loss over the validation rows when they were evaluated after this step; null otherwise.</param>
public sealed record TrainingProgress(int Step, int TotalSteps, double Epoch, double Loss, double GradientNorm, double LearningRate,
    long LabelTokens, long Tokens, double TokensPerSecond, TimeSpan Elapsed, TimeSpan Remaining, double? ValidationLoss = null)
{
    /// <summary>e to the <see cref="ValidationLoss"/>: among how many equally likely tokens the model would choose, in the mean. Null where that is.</summary>
    public double? ValidationPerplexity => ValidationLoss is { } loss ? Math.Exp(loss) : null;

    /// <summary>Share of the validation rows' label tokens that the model would have said itself: whose logit is the largest after the true tokens before
    /// it, of equal ones the first. Null where <see cref="ValidationLoss"/> is. TRL's name: eval_mean_token_accuracy.</summary>
    public double? ValidationTokenAccuracy { get; init; }

    /// <summary>Whether the step changed nothing: its gradients overflowed in float16, and the loss scale is halved for the next. Such a step counts, and the
    /// learning rate does not go on, as in transformers.</summary>
    public bool WasSkipped { get; init; }

    /// <summary>What the loss was multiplied with for the backward pass: 1 but for <see cref="Runtime.ComputeType.Float16"/>. PyTorch's name:
    /// GradScaler.get_scale.</summary>
    public double LossScale { get; init; } = 1;
}

/// <summary>What a finished (or cancelled) run leaves behind, besides the trained tensors.</summary>
/// <param name="Steps">Every optimizer step, in order; of a run that was resumed those before, too.</param>
/// <param name="WasCancelled">True when the cancellation token stopped the run early; the tensors are those of the last whole step.</param>
/// <param name="Duration">Wall-clock time of the run; of a run that was resumed with the time that its steps before took.</param>
public sealed record TrainingSummary(IReadOnlyList<TrainingProgress> Steps, bool WasCancelled, TimeSpan Duration)
{
    /// <summary>The first step that this call made, from 1; more where the run was resumed.</summary>
    public int FirstStep { get; init; } = 1;

    /// <summary>The step with the lowest validation loss; null where there was no validation. transformers' name: best_global_step.</summary>
    public int? BestStep { get; init; }

    /// <summary>Whether the run ended before its last step since the validation loss became no better: see
    /// <see cref="TrainingOptions.EarlyStoppingPatience"/>.</summary>
    public bool StoppedEarly { get; init; }

    /// <summary>What was lost or looks wrong, a sentence each: rows that were cut or left out, options without effect, where an unfinished result was
    /// written. Empty when there is nothing.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];
}
