using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>What a <see cref="QwenChatClient"/> has its answers from. Thread-safe.</summary>
internal interface IAnswerSource : IDisposable
{
    /// <summary>How answers are generated where a request does not say.</summary>
    GenerationOptions Defaults { get; }

    /// <summary>Loads what is not loaded yet.</summary>
    /// <param name="cancellation">Ends the waiting.</param>
    /// <returns>What the checkpoint's chat template knows.</returns>
    ValueTask<TemplateFeatures> OpenAsync(CancellationToken cancellation);

    /// <summary>Generates an answer: see <see cref="TextGenerator.GenerateAsync(Conversation, GenerationOptions, CancellationToken)"/>.</summary>
    IAsyncEnumerable<GeneratedChunk> AnswerAsync(TextRow row, GenerationOptions options, CancellationToken cancellation);

    /// <summary>The object that generates, for who asks for its type; null for another type.</summary>
    object? GetService(Type serviceType);
}

/// <summary>What a chat template knows beyond messages.</summary>
/// <param name="Tools">Whether it writes the tools that may be called.</param>
/// <param name="Thinking">Whether it reads enable_thinking.</param>
internal sealed record TemplateFeatures(bool Tools, bool Thinking)
{
    /// <summary>Looks into a generator's template.</summary>
    public static TemplateFeatures Of(TextGenerator generator) => new(generator.TemplateReads("tools"), generator.TemplateReads("enable_thinking"));
}
