namespace MLNetLora.Training.Planning;

/// <summary>How a run and the machine's memory go together.</summary>
internal enum MemoryFit
{
    /// <summary>What the run allocates and the weights that it maps fit.</summary>
    Fits,

    /// <summary>What it allocates fits, but the weights do not fit beside it: they are read from the disk at each micro-batch.</summary>
    ReadsWeightsAgain,

    /// <summary>It would be ended for lack of memory.</summary>
    DoesNotFit,
}

/// <summary>What a run would take, as probes have shown. Bytes and seconds.</summary>
internal sealed record RunPlan
{
    /// <summary>The options that are other than asked for, by name, with their values; empty for the run as asked.</summary>
    public required IReadOnlyDictionary<string, object> Changes { get; init; }

    /// <summary>Why there are no figures: what the probe died of, or the option that is refused. Null where there are.</summary>
    public string? Failure { get; init; }

    /// <summary>Layers of the parts of the model that were measured; the model's own number alone where all of it was.</summary>
    public IReadOnlyList<int> ProbedLayers { get; init; } = [];

    /// <summary>Most private memory of the process: the system can get it back by ending the process alone.</summary>
    public double PeakBytes { get; init; }

    /// <summary>Frozen weights in mapped files, which are shared with other processes, and read again from the disk where memory is short.</summary>
    public double WeightBytes { get; init; }

    /// <summary>Memory of the machine or the container.</summary>
    public required double AvailableBytes { get; init; }

    /// <summary>Trained parameters.</summary>
    public double TrainedParameters { get; init; }

    /// <summary>From the start of the process until the first micro-batch.</summary>
    public double StartSeconds { get; init; }

    /// <summary>An optimizer step with its micro-batches, on average.</summary>
    public double StepSeconds { get; init; }

    /// <summary>Optimizer steps.</summary>
    public int Steps { get; init; }

    /// <summary>All evaluations together.</summary>
    public double EvaluationSeconds { get; init; }

    /// <summary>Tokens of the run that are not padding.</summary>
    public double Tokens { get; init; }

    /// <summary>The whole run.</summary>
    public double TotalSeconds => StartSeconds + (Steps * StepSeconds) + EvaluationSeconds;

    /// <summary>Tokens over the time of the steps.</summary>
    public double TokensPerSecond => Steps * StepSeconds > 0 ? Tokens / (Steps * StepSeconds) : 0;

    /// <summary>Whether it fits.</summary>
    public MemoryFit Fit => Failure is not null || PeakBytes > AvailableBytes ? MemoryFit.DoesNotFit
        : PeakBytes + WeightBytes > AvailableBytes ? MemoryFit.ReadsWeightsAgain
        : MemoryFit.Fits;

    /// <summary>A plan from what was measured, or extrapolated, for the whole model.</summary>
    /// <param name="run">The run.</param>
    /// <param name="shape">Its micro-batches.</param>
    /// <param name="figures">The figures; of each of the strata in order, then of others.</param>
    /// <param name="changes">What is other than asked for.</param>
    /// <param name="available">Memory of the machine.</param>
    public static RunPlan Of(PlannedRun run, RunShape shape, ProbeFigures figures, IReadOnlyDictionary<string, object> changes, long available)
    {
        double batches = shape.Strata.Zip(figures.BatchSeconds, (stratum, seconds) => stratum.Count * seconds).Sum();
        return new RunPlan
        {
            Changes = changes,
            PeakBytes = run.BytesBefore + figures.PeakBytes,
            WeightBytes = FrozenWeights.MappedBytes(run),
            AvailableBytes = available,
            TrainedParameters = figures.Parameters,
            StartSeconds = run.SecondsBefore + figures.StartSeconds + figures.WarmupSeconds,
            StepSeconds = (batches / shape.Steps) + figures.OptimizerSeconds,
            Steps = shape.Steps,
            EvaluationSeconds = shape.Evaluations * figures.EvaluationSeconds,
            Tokens = shape.Tokens,
        };
    }
}
