namespace MLNetLora.Text;

/// <summary>What a chat template makes of a conversation.</summary>
/// <param name="Text">The text, as transformers' apply_chat_template gives it.</param>
/// <param name="GenerationSpans">The parts that the template marks with {% generation %}, in order; none where it marks nothing.</param>
public sealed record RenderedTemplate(string Text, IReadOnlyList<GenerationSpan> GenerationSpans);

/// <summary>A part of a rendered text.</summary>
/// <param name="Start">Index of its first character, in UTF-16 units as .NET counts them (Python counts characters).</param>
/// <param name="Length">Number of UTF-16 units.</param>
public readonly record struct GenerationSpan(int Start, int Length);
