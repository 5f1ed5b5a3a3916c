using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>
/// How a checkpoint's generation_config.json wants answers generated, with the defaults that transformers has for what the file does not say.
/// Sampling values count only where something samples.
/// </summary>
/// <param name="DoSample">do_sample: whether tokens are drawn; false (default) is greedy.</param>
/// <param name="Temperature">temperature; 1 where the file has none.</param>
/// <param name="TopK">top_k, 0 (in the file 0 or null) for all tokens; 50 where the file has none.</param>
/// <param name="TopP">top_p; 1 where the file has none.</param>
/// <param name="MinP">min_p; 0 (off) where the file has none.</param>
/// <param name="RepetitionPenalty">repetition_penalty, which greedy answers have too; 1 where the file has none.</param>
internal sealed record GenerationDefaults(
    bool DoSample = false, float Temperature = 1f, int TopK = 50, float TopP = 1f, float MinP = 0f, float RepetitionPenalty = 1f)
{
    /// <summary>Reads generation_config.json.</summary>
    /// <exception cref="CheckpointException">A value makes no sense.</exception>
    internal static GenerationDefaults Read(ConfigFile file)
    {
        GenerationDefaults defaults = new();
        return new GenerationDefaults(
            file.Flag("do_sample"),
            (float)(file.Number("temperature", value => value is >= 0 and <= float.MaxValue, "0 or more") ?? defaults.Temperature),
            file.OptionalInt("top_k", int.MaxValue / 2, minimum: 0) ?? (file.Has("top_k") ? 0 : defaults.TopK), // null switches it off
            (float)(file.Number("top_p", value => value is > 0 and <= 1, "above 0 and at most 1") ?? defaults.TopP),
            (float)(file.Number("min_p", value => value is >= 0 and <= 1, "between 0 and 1") ?? defaults.MinP),
            (float)(file.Number("repetition_penalty", value => value is > 0 and <= float.MaxValue, "above 0") ?? defaults.RepetitionPenalty));
    }
}
