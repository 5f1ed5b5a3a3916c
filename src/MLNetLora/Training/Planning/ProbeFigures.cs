using System.Text.Json;

namespace MLNetLora.Training.Planning;

/// <summary>What a probe has measured. Bytes are private memory beyond what the process had before it opened the checkpoint.</summary>
/// <param name="Layers">Layers of the part of the model.</param>
/// <param name="StartBytes">Most until the first micro-batch.</param>
/// <param name="TrainingBytes">Most while it was trained, without what the start has left for the garbage collector.</param>
/// <param name="EvaluationBytes">Most while validation rows were evaluated after that; 0 where there are none.</param>
/// <param name="StartSeconds">Time from the start of the process until the first micro-batch.</param>
/// <param name="BatchSeconds">Time of each micro-batch of the request.</param>
/// <param name="WarmupSeconds">What the first micro-batch took longer than later ones of its shape.</param>
/// <param name="OptimizerSeconds">Time of a step of the optimizer.</param>
/// <param name="EvaluationSeconds">Time of the evaluated micro-batch; 0 where there is none.</param>
/// <param name="Parameters">Trained parameters.</param>
internal sealed record ProbeFigures(int Layers, double StartBytes, double TrainingBytes, double EvaluationBytes, double StartSeconds,
    IReadOnlyList<double> BatchSeconds, double WarmupSeconds, double OptimizerSeconds, double EvaluationSeconds, double Parameters)
{
    /// <summary>Whether the times of micro-batches are those of the first ones, which take memory that later ones find.</summary>
    public bool AreFirst { get; init; }

    /// <summary>The share that a later micro-batch takes of the time of the first one of its shape.</summary>
    public double LaterShare => BatchSeconds[0] > 0 ? BatchSeconds[0] / (BatchSeconds[0] + WarmupSeconds) : 1;

    /// <summary>The figures with times as those of later micro-batches.</summary>
    /// <param name="share">What <see cref="LaterShare"/> is in a run like it.</param>
    public ProbeFigures Settled(double share) => !AreFirst ? this : this with
    {
        AreFirst = false,
        BatchSeconds = [.. BatchSeconds.Select(seconds => share * seconds)],
        WarmupSeconds = (1 - share) * BatchSeconds[0],
    };

    /// <summary>The figures of a whole model that were extrapolated, corrected by a few micro-batches on all of it.</summary>
    /// <param name="whole">Measured.</param>
    public ProbeFigures Corrected(ProbeFigures whole)
    {
        double ratio = whole.BatchSeconds.Max() / BatchSeconds.Max(); // of the largest one
        return this with
        {
            TrainingBytes = whole.TrainingBytes,
            EvaluationBytes = EvaluationBytes == 0 ? 0 : EvaluationBytes + whole.TrainingBytes - TrainingBytes, // with what training holds
            StartSeconds = whole.StartSeconds,
            BatchSeconds = [.. BatchSeconds.Select(seconds => ratio * seconds)],
            WarmupSeconds = whole.WarmupSeconds,
        };
    }

    /// <summary>Most of all parts.</summary>
    public double PeakBytes => Math.Max(StartBytes, Math.Max(TrainingBytes, EvaluationBytes));

    /// <summary>
    /// The figures of a model with more layers. Each layer adds as much as the one before it, to each figure of itself: the largest part of a small model
    /// need not be that of a large one.
    /// </summary>
    /// <param name="few">Measured with few layers.</param>
    /// <param name="more">Measured with more.</param>
    /// <param name="layers">How many there are.</param>
    public static ProbeFigures Extrapolate(ProbeFigures few, ProbeFigures more, int layers)
    {
        ArgumentOutOfRangeException.ThrowIfEqual(few.Layers, more.Layers, nameof(more));
        double steps = (double)(layers - more.Layers) / (more.Layers - few.Layers);
        return new ProbeFigures(layers, At(few.StartBytes, more.StartBytes), At(few.TrainingBytes, more.TrainingBytes),
            At(few.EvaluationBytes, more.EvaluationBytes), At(few.StartSeconds, more.StartSeconds), [.. few.BatchSeconds.Zip(more.BatchSeconds, At)],
            At(few.WarmupSeconds, more.WarmupSeconds), At(few.OptimizerSeconds, more.OptimizerSeconds), At(few.EvaluationSeconds, more.EvaluationSeconds),
            At(few.Parameters, more.Parameters));

        // What others do on the machine may make the smaller model look slower: a layer never takes less than nothing.
        double At(double small, double large) => large + (steps * Math.Max(0, large - small));
    }

    /// <summary>The figures as one line.</summary>
    public string ToJson() => JsonSerializer.Serialize(this);

    /// <summary>Reads <see cref="ToJson"/>.</summary>
    public static ProbeFigures Parse(string json) =>
        JsonSerializer.Deserialize<ProbeFigures>(json) ?? throw new ArgumentException("There are no figures.", nameof(json));
}
