using System.Text.Json.Serialization;
using MLNetLora.Adapters;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>How a row becomes a prompt; trained with and therefore saved with the model.</summary>
/// <param name="SystemPrompt">See <see cref="PromptSettings.SystemPrompt"/>.</param>
/// <param name="PromptTemplate">See <see cref="PromptSettings.PromptTemplate"/>.</param>
/// <param name="LabelScope">Which tokens were learned.</param>
/// <param name="MaximumSequenceLength">Most tokens of a training row.</param>
/// <param name="EnableThinking">See <see cref="PromptSettings.EnableThinking"/>.</param>
internal sealed record PromptOptions(
    string? SystemPrompt,
    string? PromptTemplate,
    LabelScope LabelScope,
    int MaximumSequenceLength,
    bool? EnableThinking = null)
{
    /// <summary>The part that answering needs too.</summary>
    [JsonIgnore]
    public PromptSettings Settings => new(SystemPrompt, PromptTemplate, EnableThinking);

    /// <summary>The same with what is not set here taken from what an adapter was trained to be asked with.</summary>
    public PromptOptions Or(PromptSettings trained) => With(new PromptSettings(
        SystemPrompt ?? trained.SystemPrompt, PromptTemplate ?? trained.PromptTemplate, EnableThinking ?? trained.EnableThinking));

    /// <summary>The same, asked otherwise.</summary>
    public PromptOptions With(PromptSettings settings) => this with
    {
        SystemPrompt = settings.SystemPrompt,
        PromptTemplate = settings.PromptTemplate,
        EnableThinking = settings.EnableThinking,
    };
}
