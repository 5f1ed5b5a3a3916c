namespace MLNetLora.Checkpoints;

/// <summary>Where a model comes from: a folder, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct that the Hugging Face cache of this machine already holds. Nothing is downloaded.</summary>
public static class ModelFolder
{
    /// <summary>Finds the folder of a model.</summary>
    /// <param name="model">A folder, or OWNER/NAME looked up in the cache: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub. Where both exist, the folder is meant.</param>
    /// <returns>The folder, absolute.</returns>
    /// <exception cref="CheckpointException">There is neither; the message says where was looked and how to get the model.</exception>
    public static string Find(string model)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (Directory.Exists(model))
        {
            return Path.GetFullPath(model);
        }

        if (!IsHubId(model))
        {
            string folder = model.Length == 0 || model.Contains('\0') ? model.Replace('\0', '?') : Path.GetFullPath(model);
            throw new CheckpointException($"There is no folder '{folder}'. Give the folder of a Hugging Face checkpoint, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct.");
        }

        return Snapshots(model) is [string snapshot, ..]
            ? snapshot
            : throw new CheckpointException($"'{model}' is neither a folder nor in the Hugging Face cache ({Cache()}). Download it once, for example with 'hf download {model}' or 'git clone', and give its folder.");
    }

    /// <summary>Whether the text could be a hub id, OWNER/NAME; it may be a relative path as well.</summary>
    internal static bool IsHubId(string model)
    {
        string[] parts = model.Split('/');
        return parts.Length == 2 && parts.All(part => part is not ("" or "." or "..") && part.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-'));
    }

    /// <summary>The folders of all revisions that the cache holds of a hub id, absolute: first the one that refs/main names, then the newest. Empty where it holds none.</summary>
    internal static IReadOnlyList<string> Snapshots(string hubId)
    {
        string repository = Path.Combine(Cache(), "models--" + hubId.Replace("/", "--", StringComparison.Ordinal));
        string snapshots = Path.Combine(repository, "snapshots");
        try
        {
            string main = Path.Combine(repository, "refs", "main");
            string revision = File.Exists(main) ? File.ReadAllText(main).Trim() : "";
            return !Directory.Exists(snapshots) ? [] : [.. Directory.EnumerateDirectories(snapshots)
                .OrderByDescending(folder => Path.GetFileName(folder) == revision)
                .ThenByDescending(Directory.GetLastWriteTimeUtc)
                .ThenBy(folder => folder, StringComparer.Ordinal)];
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"The Hugging Face cache's folder {repository} cannot be read: {exception.Message}", exception);
        }
    }

    /// <summary>The folder of the Hugging Face cache, absolute; it need not exist.</summary>
    internal static string Cache()
    {
        if (Environment.GetEnvironmentVariable("HF_HUB_CACHE") is { Length: > 0 } cache)
        {
            return Path.GetFullPath(cache);
        }

        string home = Environment.GetEnvironmentVariable("HF_HOME") is { Length: > 0 } set ? set : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache", "huggingface");
        return Path.GetFullPath(Path.Combine(home, "hub"));
    }
}
