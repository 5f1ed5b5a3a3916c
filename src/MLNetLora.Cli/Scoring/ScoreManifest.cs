using System.Text.Json;
using MLNetLora.Checkpoints;
using MLNetLora.Cli.Configuration;

namespace MLNetLora.Cli.Scoring;

/// <summary>What a file of answers belongs to; stands beside it, so that a run that is begun again knows its own.</summary>
/// <param name="Input">The rows.</param>
/// <param name="Shard">Which of them.</param>
/// <param name="Settings">What decides the answers, as text by names.</param>
internal sealed record ScoreManifest(ScoreInput Input, Shard Shard, IReadOnlyDictionary<string, string> Settings)
{
    private const int LongestFile = 1 << 24;

    private static readonly JsonSerializerOptions s_json = new()
    {
        WriteIndented = true,
        NewLine = "\n",
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    /// <summary>Version of the form.</summary>
    public int Format { get; init; } = 1;

    /// <summary>Whether all rows are answered.</summary>
    public bool IsComplete { get; init; }

    /// <summary>How many rows have an error in the place of an answer, once all are there.</summary>
    public long Failed { get; init; }

    /// <summary>Where it stands.</summary>
    public static string PathOf(string answers) => answers + ".manifest.json";

    /// <summary>Reads it.</summary>
    /// <param name="answers">The file of answers.</param>
    /// <returns>Null where there is none.</returns>
    /// <exception cref="ConfigException">It is no manifest.</exception>
    public static ScoreManifest? Read(string answers)
    {
        string path = PathOf(answers);
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            if (new FileInfo(path).Length <= LongestFile
                && JsonSerializer.Deserialize<ScoreManifest>(File.ReadAllBytes(path), s_json) is { } read
                && read is { Format: 1, Failed: >= 0, Shard: { Count: > 0, Index: >= 0 } }
                && read.Input.Files.All(file => file is not null) && read.Settings.Values.All(value => value is not null))
            {
                return read;
            }
        }
        catch (JsonException)
        {
            // Said below.
        }

        throw new ConfigException($"{path} is no manifest of this version; --overwrite begins anew.");
    }

    /// <summary>Writes it, whole or not at all.</summary>
    public void Write(string answers) => AtomicFile.Write(PathOf(answers), stream => JsonSerializer.Serialize(stream, this, s_json));

    /// <summary>In what rows or shard of another run differ; null where they do not.</summary>
    public string? RowsDifference(ScoreManifest now) => !Input.IsSame(now.Input) ? "its rows are others: the files of --in have changed"
        : Shard != now.Shard ? $"it is shard {Shard}, and now {now.Shard} is asked for"
        : null;

    /// <summary>In what the settings of another run differ; null where they do not.</summary>
    public string? SettingsDifference(ScoreManifest now)
    {
        foreach (string name in Settings.Keys.Union(now.Settings.Keys).Order(StringComparer.Ordinal))
        {
            string before = Settings.GetValueOrDefault(name, "unknown");
            string after = now.Settings.GetValueOrDefault(name, "unknown");
            if (before != after)
            {
                return $"its {name} was {Short(before)} and is now {Short(after)}";
            }
        }

        return null;
    }

    private static string Short(string value) => value.Length <= 60 ? value : value[..60] + "…";
}
