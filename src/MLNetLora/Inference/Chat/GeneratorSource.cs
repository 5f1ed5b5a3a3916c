using MLNetLora.Text;

namespace MLNetLora.Inference;

/// <summary>Answers of a <see cref="TextGenerator"/>.</summary>
/// <param name="generator">What generates.</param>
/// <param name="defaults">How, where a request does not say.</param>
/// <param name="ownsGenerator">Whether it is disposed with this.</param>
internal sealed class GeneratorSource(TextGenerator generator, GenerationOptions defaults, bool ownsGenerator) : IAnswerSource
{
    private readonly TemplateFeatures _features = TemplateFeatures.Of(generator);

    public GenerationOptions Defaults => defaults;

    public ValueTask<TemplateFeatures> OpenAsync(CancellationToken cancellation) => new(_features);

    public IAsyncEnumerable<GeneratedChunk> AnswerAsync(TextRow row, GenerationOptions options, CancellationToken cancellation) =>
        generator.GenerateAsync(row, options, cancellation);

    public object? GetService(Type serviceType) => serviceType.IsInstanceOfType(generator) ? generator : null;

    public void Dispose()
    {
        if (ownsGenerator)
        {
            generator.Dispose();
        }
    }
}
