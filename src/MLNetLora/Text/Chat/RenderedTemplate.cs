using MLNetLora.Jinja;

namespace MLNetLora.Text;

/// <summary>What a chat template makes of a conversation.</summary>
/// <param name="Text">The text, as transformers' apply_chat_template gives it.</param>
/// <param name="GenerationSpans">The parts that the template marks with {% generation %}, in order; none where it marks nothing.</param>
public sealed record RenderedTemplate(string Text, IReadOnlyList<GenerationSpan> GenerationSpans);
