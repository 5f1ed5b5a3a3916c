namespace MLNetLora.Tools.NanoQwen.Corpus;

/// <summary>One question and its answer, as a source file has them.</summary>
/// <param name="Source">File name without extension; the statistics are kept by it.</param>
/// <param name="Prompt">Instruction, and after a line break the input where there is one, as the library renders its rows.</param>
/// <param name="Answer">The answer.</param>
internal sealed record Exchange(string Source, string Prompt, string Answer);
