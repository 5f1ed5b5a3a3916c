using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Running;

/// <summary>The base of an adapter, where nobody says another.</summary>
internal static class AdapterBase
{
    /// <summary>The base that an adapter's file names.</summary>
    public static string Of(string adapter)
    {
        string path = Path.Combine(adapter, LoraAdapter.ConfigName);
        try
        {
            using JsonDocument document = JsonDocument.Parse(
                BoundedFile.Read(path, LoraAdapter.MaximumConfigBytes) ?? throw new AdapterException($"{path} is too long for an adapter's configuration."));
            return document.RootElement.ValueKind == JsonValueKind.Object
                && document.RootElement.TryGetProperty("base_model_name_or_path", out JsonElement name) && name.GetString() is { Length: > 0 } text
                ? text
                : throw new ConfigException($"{path} does not say what its base is; give it with --model.");
        }
        catch (Exception e) when (e is JsonException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            throw new AdapterException($"The adapter {adapter} cannot be read: {e.Message}", e);
        }
    }
}
