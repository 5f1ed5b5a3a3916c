using System.IO.Hashing;
using System.Reflection;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Running;
using MLNetLora.Inference;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Scoring;

/// <summary>What decides the answers to rows, beside the rows, as text by names. Where and how fast they are computed is left out.</summary>
internal static class ScoreSettings
{
    private static readonly string[] s_ofSpeed = [nameof(GenerationOptions.BatchSize)];

    /// <summary>Collects it.</summary>
    /// <param name="settings">What was said.</param>
    /// <param name="model">What answers, as it was opened.</param>
    /// <param name="source">What it was opened from.</param>
    public static IReadOnlyDictionary<string, string> Of(RunSettings settings, AnsweringModel model, AnswerSource source)
    {
        BaseModelRecord record = BaseModelRecord.Create("", model.Engine.Checkpoint);
        SortedDictionary<string, string> all = new(StringComparer.Ordinal)
        {
            ["model"] = Hash(JsonSerializer.SerializeToUtf8Bytes(new { record.Files, record.Fingerprint })),
            ["adapter"] = Adapter(source),
            ["data_format"] = settings.DataFormat.ToString(),
            ["system_prompt"] = settings.Training.SystemPrompt ?? "unset",
            ["prompt_template"] = settings.Training.PromptTemplate ?? "unset",
            ["enable_thinking"] = settings.Training.EnableThinking?.ToString() ?? "unset",
            ["weight_precision"] = settings.Training.WeightPrecision.ToString(),
        };
        foreach (PropertyInfo property in typeof(GenerationOptions).GetProperties().Where(property => !s_ofSpeed.Contains(property.Name)))
        {
            all[Casing.Snake(property.Name)] = JsonSerializer.Serialize(property.GetValue(model.Generation), property.PropertyType);
        }

        return all;
    }

    /// <summary>
    /// The seed of a run that samples and was given none. It comes from the rows, so that all shards sample alike, and so does a run that is begun again.
    /// </summary>
    public static int Seed(ScoreInput input) => BitConverter.ToInt32(
        XxHash128.Hash(JsonSerializer.SerializeToUtf8Bytes(input.Files.Select(file => file.XxHash128)))) & int.MaxValue;

    private static string Adapter(AnswerSource source)
    {
        (string? model, string? adapter) = source;
        if (AnsweringModel.IsZip(adapter) || AnsweringModel.IsZip(model))
        {
            return HashFiles(AnsweringModel.IsZip(adapter) ? adapter! : model!);
        }

        return adapter is null ? "none" : HashFiles([.. new[] { LoraAdapter.ConfigName, LoraAdapter.WeightsName }.Select(name => Path.Combine(adapter, name))]);
    }

    private static string HashFiles(params string[] paths)
    {
        XxHash128 hash = new();
        foreach (string path in paths.Where(File.Exists))
        {
            using FileStream stream = File.OpenRead(path);
            hash.Append(stream);
        }

        return Convert.ToHexStringLower(hash.GetCurrentHash());
    }

    private static string Hash(byte[] bytes) => Convert.ToHexStringLower(XxHash128.Hash(bytes));
}
