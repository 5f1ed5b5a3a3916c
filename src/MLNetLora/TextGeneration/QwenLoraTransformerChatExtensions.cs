using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>A trained model as a chat client.</summary>
public static class QwenLoraTransformerChatExtensions
{
    /// <summary>
    /// The transformer as a chat client of Microsoft.Extensions.AI, which does not own it. Answers are generated as
    /// <see cref="QwenLoraTransformer.Generation"/> says where a request does not, and the model is loaded with the first one.
    /// </summary>
    /// <param name="transformer">The trained model.</param>
    /// <param name="modelId">The model's name, which every response bears; null for the name of the base checkpoint's folder.</param>
    public static QwenChatClient AsChatClient(this QwenLoraTransformer transformer, string? modelId = null)
    {
        ArgumentNullException.ThrowIfNull(transformer);
        return new QwenChatClient(new Source(transformer), modelId ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(transformer.BaseFolder)));
    }

    private sealed class Source(QwenLoraTransformer transformer) : IAnswerSource
    {
        public GenerationOptions Defaults => transformer.Generation;

        public async ValueTask<TemplateFeatures> OpenAsync(CancellationToken cancellation) =>
            TemplateFeatures.Of(await transformer.OpenEngineAsync(cancellation).ConfigureAwait(false));

        public IAsyncEnumerable<GeneratedChunk> AnswerAsync(TextRow row, GenerationOptions options, CancellationToken cancellation) =>
            transformer.Stream(row, options, cancellation);

        public object? GetService(Type serviceType) => serviceType.IsInstanceOfType(transformer) ? transformer : null;

        public void Dispose()
        {
            // The transformer is somebody else's.
        }
    }
}
