using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.TextGeneration;

/// <summary>What decides a checkpoint's answers beside its weights, by meaning: a file that is only written otherwise has the same fingerprint.</summary>
/// <param name="Config">What config.json and generation_config.json say, as JSON, under the names of <see cref="QwenConfig"/>.</param>
/// <param name="Template">SHA-256 of the chat templates and of the special tokens that they may write.</param>
/// <param name="Tokenizer">The tokenizer.</param>
internal sealed record CheckpointFingerprint(IReadOnlyDictionary<string, string> Config, string Template, TokenizerFingerprint Tokenizer)
{
    /// <summary>Fields of <see cref="QwenConfig"/> that generation_config.json decides.</summary>
    internal static readonly string[] OfGeneration = [nameof(QwenConfig.EosTokenIds), "Generation"];

    private static readonly JsonSerializerOptions s_json = new() { NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals };

    /// <summary>Reads a checkpoint folder.</summary>
    public static CheckpointFingerprint Read(string folder) => new(Fields(QwenConfig.Read(folder)), OfTemplate(folder), TokenizerFingerprint.Read(folder));

    /// <summary>In what a folder differs: file, expected, found. Null when it does not.</summary>
    public string? Difference(string folder) => ConfigDifference(folder) ?? TemplateDifference(folder) ?? TokenizerDifference(folder);

    /// <summary>Fields that only one of two versions of this library knows say nothing.</summary>
    private string? ConfigDifference(string folder)
    {
        Dictionary<string, string> found = Fields(QwenConfig.Read(folder));
        foreach ((string field, string expected) in Config)
        {
            if (found.TryGetValue(field, out string? value) && value != expected)
            {
                string file = OfGeneration.Contains(field) ? "generation_config.json" : QwenConfig.FileName;
                return $"{file} differs: {field} {expected} was expected, it is {value}";
            }
        }

        return null;
    }

    private string? TemplateDifference(string folder) => OfTemplate(folder) == Template ? null
        : $"{Path.GetFileName(TemplateFiles.Read(folder).Path)} differs: it has another chat template";

    private string? TokenizerDifference(string folder) => Tokenizer.Difference(TokenizerFingerprint.Read(folder)) is { } difference
        ? $"the tokenizer differs: {difference}"
        : null;

    private static Dictionary<string, string> Fields(QwenConfig config) =>
        JsonSerializer.SerializeToElement(config, s_json).EnumerateObject().ToDictionary(field => field.Name, field => field.Value.GetRawText());

    private static string OfTemplate(string folder)
    {
        TemplateFiles files = TemplateFiles.Read(folder);
        StringBuilder text = new();
        text.Append(files.Template).Append('\0').Append(files.WithTools);
        foreach ((string name, object? token) in files.SpecialTokens.OrderBy(token => token.Key, StringComparer.Ordinal))
        {
            text.Append('\0').Append(name).Append('=').Append(token);
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }
}
