using System.Text;
using MLNetLora.Checkpoints;

namespace MLNetLora.TextGeneration;

/// <summary>Finds the checkpoint of a saved model: where the program says, where the environment says, where it was.</summary>
/// <remarks>Each candidate is verified and the first that holds the recorded checkpoint wins, so one setting can serve models with different bases.</remarks>
internal static class BaseModelSearch
{
    /// <summary>One or more folders or hub ids, separated as in PATH.</summary>
    public const string EnvironmentVariable = "MLNETLORA_BASE_MODEL";

    /// <summary>The folder, or a <see cref="CheckpointException"/> that says for each candidate why it is not the one, and how to override.</summary>
    public static string Find(BaseModelRecord record, IEnumerable<string> overrides)
    {
        StringBuilder message = new();
        foreach ((string folder, string source, string? unusable) in Candidates(record, overrides).DistinctBy(candidate => candidate.Folder))
        {
            string? problem = unusable ?? (Directory.Exists(folder) ? record.Difference(folder) : "there is no such folder");
            if (problem is null)
            {
                return folder;
            }

            message.Append("  ").Append(folder).Append(" (").Append(source).Append("): ").Append(problem).AppendLine(".");
        }

        throw new CheckpointException(
            $"The model's base checkpoint '{record.Location}' ({record.Files.Count} weight files, {record.TotalSize} bytes) was not found. "
            + $"Looked in:\n{message}The adapter fits only the checkpoint that it was trained on. Say where that is with "
            + $"ml.TextGeneration.UseBaseModel(folder or hub id) before ml.Model.Load, or with the environment variable {EnvironmentVariable}.");
    }

    private static IEnumerable<(string Folder, string Source, string? Unusable)> Candidates(BaseModelRecord record, IEnumerable<string> overrides)
    {
        string variable = Environment.GetEnvironmentVariable(EnvironmentVariable) ?? "";
        IEnumerable<(string Model, string Source)> settings =
        [
            .. overrides.Select(model => (model, "ml.TextGeneration.UseBaseModel")),
            .. variable.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
                .Select(model => (model, EnvironmentVariable)),
        ];
        foreach ((string model, string source) in settings)
        {
            // What looks like a hub id may be a folder in the working directory; where it is not, listing that would only puzzle.
            if (!ModelFolder.IsHubId(model) || Directory.Exists(model))
            {
                yield return (Path.GetFullPath(model), source, null);
            }

            foreach ((string, string, string?) snapshot in Snapshots(model, source))
            {
                yield return snapshot;
            }
        }

        // The zip is untrusted: a network path in it would make Windows log in to a server of its choice. Overrides may well be network paths.
        if (!IsNetworkPath(record.Location))
        {
            yield return (Path.GetFullPath(record.Location), "as given at training, from the working directory", null);
            yield return (Path.GetFullPath(record.Location, AppContext.BaseDirectory), "as given at training, from the program's directory", null);
        }

        if (!IsNetworkPath(record.AbsolutePath))
        {
            yield return (record.AbsolutePath, "where it was at training", null);
        }

        foreach ((string, string, string?) snapshot in Snapshots(record.Location, "as given at training, from the Hugging Face cache"))
        {
            yield return snapshot;
        }
    }

    /// <summary>All revisions that the Hugging Face cache holds, as the model may have been trained on another than the latest; none for what is no
    /// hub id.</summary>
    private static IEnumerable<(string Folder, string Source, string? Unusable)> Snapshots(string model, string source)
    {
        if (!ModelFolder.IsHubId(model))
        {
            return [];
        }

        try
        {
            IReadOnlyList<string> folders = ModelFolder.Snapshots(model);
            return folders.Count == 0
                ? [(model, source, $"there is no such folder, and the Hugging Face cache {ModelFolder.Cache()} does not hold it")]
                : folders.Select(folder => (folder, source, (string?)null));
        }
        catch (CheckpointException exception)
        {
            return [(model, source, exception.Message)];
        }
    }

    private static bool IsNetworkPath(string path) => path.Replace('\\', '/').StartsWith("//", StringComparison.Ordinal);
}
