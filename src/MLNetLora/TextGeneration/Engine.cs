using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.TextGeneration;

/// <summary>How a row becomes a prompt; trained with and therefore saved with the model.</summary>
internal sealed record PromptOptions(string? SystemPrompt, string? PromptTemplate, LabelScope LabelScope, int MaximumSequenceLength, bool? EnableThinking = null)
{
    /// <summary>The part that answering needs too.</summary>
    [System.Text.Json.Serialization.JsonIgnore]
    public PromptSettings Settings => new(SystemPrompt, PromptTemplate, EnableThinking);
}

/// <summary>
/// Everything a training run needs; rows are read from the data view, and checked, while they are enumerated, which is done once. BaseName is the base as the user calls it, for the adapter
/// to remember. Notice receives messages for the log.
/// </summary>
internal sealed record TrainingRequest(Checkpoint Base, string BaseName, IEnumerable<TextRow> Rows, IEnumerable<TextRow>? ValidationRows,
    LoraOptions Lora, TrainingOptions Training, PromptOptions Prompt, Action<string> Notice);

/// <summary>Generates answers with one base checkpoint and one adapter. Every member may be called from several threads at once; disposed only when idle.</summary>
internal interface ITextGenerationEngine : IDisposable
{
    /// <summary>One answer per row, in order.</summary>
    IReadOnlyList<string> Generate(IReadOnlyList<TextRow> rows, CancellationToken cancellationToken);
}

/// <summary>The rooms below this one, as narrow as ML.NET's face needs them.</summary>
internal interface ITextGenerationBackend
{
    /// <summary>Trains; on cancellation the summary says so and the adapter is that of the last whole step.</summary>
    (LoraAdapter Adapter, TrainingSummary Summary) Train(TrainingRequest request, Action<TrainingProgress> progress, CancellationToken cancellationToken);

    /// <summary>Opens base and adapter for generation; takes long, holds native memory.</summary>
    ITextGenerationEngine Open(string baseFolder, LoraAdapter adapter, PromptOptions prompt, GenerationOptions generation, WeightPrecision precision);

    /// <summary>Writes base plus adapter as a plain Hugging Face checkpoint.</summary>
    void MergeAndSave(string baseFolder, LoraAdapter adapter, string folder);
}
