namespace MLNetLora.Jinja;

/// <summary>A part of a rendered text that the template marks with {% generation %}.</summary>
/// <param name="Start">Index of its first character, in UTF-16 units as .NET counts them (Python counts characters).</param>
/// <param name="Length">Number of UTF-16 units.</param>
public readonly record struct GenerationSpan(int Start, int Length);
