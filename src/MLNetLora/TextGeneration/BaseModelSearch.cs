using System.Text;

namespace MLNetLora.TextGeneration;

/// <summary>Finds the checkpoint of a saved model: where the program says, where the environment says, where it was.</summary>
/// <remarks>Each candidate is verified and the first that holds the recorded checkpoint wins, so one setting can serve models with different bases.</remarks>
internal static class BaseModelSearch
{
    /// <summary>One or more folders, separated as in PATH.</summary>
    public const string EnvironmentVariable = "MLNETLORA_BASE_MODEL";

    /// <summary>The folder, or a <see cref="CheckpointException"/> that says for each candidate why it is not the one, and how to override.</summary>
    public static string Find(BaseModelRecord record, IEnumerable<string> overrides)
    {
        StringBuilder message = new();
        foreach ((string folder, string source) in Candidates(record, overrides).DistinctBy(candidate => candidate.Folder))
        {
            string? problem = Directory.Exists(folder) ? record.Difference(folder) : "there is no such folder";
            if (problem is null)
            {
                return folder;
            }

            message.Append("  ").Append(folder).Append(" (").Append(source).Append("): ").Append(problem).AppendLine(".");
        }

        throw new CheckpointException($"""
            The model's base checkpoint '{record.Location}' ({record.Files.Count} weight files, {record.TotalSize} bytes) was not found. Looked in:
            {message}The adapter fits only the checkpoint that it was trained on. Say where that is with ml.TextGeneration.UseBaseModel(folder) before ml.Model.Load, or with the environment variable {EnvironmentVariable}.
            """);
    }

    private static IEnumerable<(string Folder, string Source)> Candidates(BaseModelRecord record, IEnumerable<string> overrides)
    {
        foreach (string folder in overrides)
        {
            yield return (folder, "ml.TextGeneration.UseBaseModel");
        }

        string variable = Environment.GetEnvironmentVariable(EnvironmentVariable) ?? "";
        foreach (string folder in variable.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            yield return (Path.GetFullPath(folder), EnvironmentVariable);
        }

        // The zip is untrusted: a network path in it would make Windows log in to a server of its choice. Overrides may well be network paths.
        if (!IsNetworkPath(record.Location))
        {
            yield return (Path.GetFullPath(record.Location), "as given at training, from the working directory");
            yield return (Path.GetFullPath(record.Location, AppContext.BaseDirectory), "as given at training, from the program's directory");
        }

        if (!IsNetworkPath(record.AbsolutePath))
        {
            yield return (record.AbsolutePath, "where it was at training");
        }
    }

    private static bool IsNetworkPath(string path) => path.Replace('\\', '/').StartsWith("//", StringComparison.Ordinal);
}
