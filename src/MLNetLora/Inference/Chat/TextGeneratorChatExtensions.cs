namespace MLNetLora.Inference;

/// <summary>A generator as a chat client.</summary>
public static class TextGeneratorChatExtensions
{
    /// <summary>The generator as a chat client of Microsoft.Extensions.AI, which does not own it.</summary>
    /// <param name="generator">What answers.</param>
    /// <param name="modelId">The model's name, which every response bears; null for the name of the checkpoint's folder.</param>
    /// <param name="defaults">How answers are generated where a request does not say; see <see cref="QwenChatClient"/>.</param>
    /// <exception cref="OptionException">A default makes no sense.</exception>
    public static QwenChatClient AsChatClient(this TextGenerator generator, string? modelId = null, GenerationOptions? defaults = null) =>
        new(generator, modelId, defaults);
}
