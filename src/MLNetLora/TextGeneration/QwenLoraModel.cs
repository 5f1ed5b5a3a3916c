using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.TextGeneration;

/// <summary>Everything that a transformer is made of.</summary>
/// <param name="Adapter">The trained LoRA factors.</param>
/// <param name="BaseModel">What is remembered of the base checkpoint.</param>
/// <param name="BaseFolder">Where the base checkpoint is now.</param>
/// <param name="Columns">Names of the columns.</param>
/// <param name="Prompt">How rows become prompts.</param>
/// <param name="Generation">How answers are generated.</param>
/// <param name="Precision">How the base's weights are held while answers are generated.</param>
internal sealed record QwenLoraModel(
    LoraAdapter Adapter,
    BaseModelRecord BaseModel,
    string BaseFolder,
    ColumnNames Columns,
    PromptOptions Prompt,
    GenerationOptions Generation,
    WeightPrecision Precision)
{
    /// <summary>Threads of the generator; 0 takes all cores. A matter of the machine, so no part of what is saved.</summary>
    public int Threads { get; init; }

    /// <summary>Where answers are computed. A matter of the machine, so no part of what is saved.</summary>
    public Device Device { get; init; } = Device.Cpu;

    /// <summary>Whether one opened generator serves both models: what differs is said with each call.</summary>
    public bool SharesGenerator(QwenLoraModel other) =>
        Prompt.Settings == other.Prompt.Settings && Precision == other.Precision && Threads == other.Threads
        && Device == other.Device;

    /// <summary>Opens the base, which must still be the one that the adapter was trained on.</summary>
    /// <param name="cancellation">Ends the comparison.</param>
    /// <exception cref="CheckpointException">It was replaced, or cannot be read.</exception>
    public Checkpoint OpenBase(CancellationToken cancellation) => BaseModel.Difference(BaseFolder, cancellation) is { } difference
        ? throw new CheckpointException($"{BaseFolder} is no longer the checkpoint that the adapter belongs to: {difference}. Put the old files back, or write "
            + "new ones to another folder and train on that.")
        : Checkpoint.Open(BaseFolder);

    /// <summary>Opens base and adapter for generation; takes long, holds native memory.</summary>
    public TextGenerator Open(CancellationToken cancellation) => new(
        OpenBase(cancellation),
        Adapter,
        Prompt.Settings,
        Threads,
        Precision,
        Device,
        cancellation: cancellation);
}
