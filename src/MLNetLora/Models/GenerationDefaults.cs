using System.Text.Json;

namespace MLNetLora.Models;

/// <summary>
/// How a checkpoint's generation_config.json wants answers generated, with the defaults that transformers has for what the file does not say.
/// Sampling values count only where something samples.
/// </summary>
/// <param name="DoSample">do_sample: whether tokens are drawn; false (default) is greedy.</param>
/// <param name="Temperature">temperature; 1 where the file has none.</param>
/// <param name="TopK">top_k, 0 for all tokens; 50 where the file has none.</param>
/// <param name="TopP">top_p; 1 where the file has none.</param>
/// <param name="RepetitionPenalty">repetition_penalty, which greedy answers have too; 1 where the file has none.</param>
public sealed record GenerationDefaults(bool DoSample = false, float Temperature = 1f, int TopK = 50, float TopP = 1f, float RepetitionPenalty = 1f)
{
    /// <summary>Reads the file's object.</summary>
    /// <param name="root">What generation_config.json holds.</param>
    /// <param name="file">Its path, for messages.</param>
    /// <exception cref="CheckpointException">A value makes no sense.</exception>
    internal static GenerationDefaults Read(JsonElement root, string file)
    {
        GenerationDefaults defaults = new();
        return new GenerationDefaults(
            root.TryGetProperty("do_sample", out JsonElement sample) && sample.ValueKind == JsonValueKind.True,
            Number("temperature", defaults.Temperature, value => value >= 0, "0 or more"),
            (int)Number("top_k", defaults.TopK, value => value is >= 0 and <= int.MaxValue / 2 && value == MathF.Truncate(value), "a whole number of at least 0"),
            Number("top_p", defaults.TopP, value => value is > 0 and <= 1, "above 0 and at most 1"),
            Number("repetition_penalty", defaults.RepetitionPenalty, value => value > 0, "above 0"));

        float Number(string field, float otherwise, Func<float, bool> allowed, string what)
        {
            if (!root.TryGetProperty(field, out JsonElement value) || value.ValueKind == JsonValueKind.Null)
            {
                return otherwise;
            }

            return value.ValueKind == JsonValueKind.Number && value.TryGetSingle(out float number) && float.IsFinite(number) && allowed(number)
                ? number
                : throw new CheckpointException($"{file}: {field} is {value.GetRawText()}; it must be {what}. Correct the file or remove the field.");
        }
    }
}
