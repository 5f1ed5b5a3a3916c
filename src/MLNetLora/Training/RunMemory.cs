using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Training;

/// <summary>A run as far as the estimate of its memory asks for it, so that the same can be asked of it with other options.</summary>
/// <param name="Config">The model.</param>
/// <param name="Checkpoint">The base; null where weights are drawn.</param>
/// <param name="Lora">The shape of the adapter; null trains every weight.</param>
/// <param name="Options">The loop's options.</param>
/// <param name="Rows">Tokenized rows.</param>
/// <param name="Validation">Rows whose loss is measured on the way.</param>
internal sealed record RunMemory(QwenConfig Config, Checkpoint? Checkpoint, LoraOptions? Lora, TrainingOptions Options, IReadOnlyList<TrainingRow> Rows,
    IReadOnlyList<TrainingRow> Validation)
{
    /// <summary>Whether the shape of the adapter is that of one that is given, and stays.</summary>
    public bool HasInitial { get; init; }

    /// <summary>What it takes at the least.</summary>
    public MemoryEstimate Estimate()
    {
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(Rows, Options);
        TrainingTarget target = Lora is null ? TrainingTarget.Full(Config) : TrainingTarget.Lora(Checkpoint!, Lora);
        ChunkPlan plan = TrainingLoop.Plan(Config, sequences, Validation, Options, target.MaximumLossChunks);
        return MemoryEstimate.Of(target, Options, plan, sequences);
    }

    /// <summary>Refuses the run where the machine, or the GPU, has less memory than that.</summary>
    /// <exception cref="OptionException">It has; the message has the figures, and what other options would save.</exception>
    public void Require() => Estimate().Require(this);

    /// <summary>Memory has run out although the estimate, which is the least, has fitted: the same error with what other options would save.</summary>
    /// <param name="error">What ended the run; comes back as it is where it is another error.</param>
    public Exception Advised(Exception error)
    {
        if (error is not NativeMemoryException memory)
        {
            return error;
        }

        try
        {
            return new NativeMemoryException($"{memory.What ?? memory.Message} {MemoryRemedies.Savings(this)}", memory);
        }
        catch (OutOfMemoryException)
        {
            return memory; // there is none left for the figures
        }
    }

    /// <summary>The same run with other options.</summary>
    public RunMemory With(Action<TrainingOptions> change)
    {
        TrainingOptions changed = Options.Copy();
        change(changed);
        return this with { Options = changed };
    }
}
