using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Training.Planning;

/// <summary>A run that somebody thinks of.</summary>
/// <param name="Checkpoint">The base.</param>
/// <param name="Lora">The shape of the adapter; null trains every weight.</param>
/// <param name="Training">The loop's options.</param>
/// <param name="Rows">Tokenized rows.</param>
/// <param name="Validation">Rows whose loss is measured on the way.</param>
internal sealed record PlannedRun(Checkpoint Checkpoint, LoraOptions? Lora, TrainingOptions Training, IReadOnlyList<TrainingRow> Rows,
    IReadOnlyList<TrainingRow> Validation)
{
    /// <summary>Whether the numbers of the adapter come from a file.</summary>
    public bool HasInitial { get; init; }

    /// <summary>Private memory of the process that would train, in bytes, once it has its rows as tokens.</summary>
    public long BytesBefore { get; init; }

    /// <summary>Time that it takes until then, from its start.</summary>
    public double SecondsBefore { get; init; }

    /// <summary>The same run with other options.</summary>
    public PlannedRun With(Action<TrainingOptions> change)
    {
        TrainingOptions changed = Training.Copy();
        change(changed);
        return this with { Training = changed };
    }

    /// <summary>What is trained of the base, or of a part of it.</summary>
    public TrainingTarget Target(Checkpoint part) => Lora is null ? TrainingTarget.Full(part.Config) : TrainingTarget.Lora(part, Lora);
}
