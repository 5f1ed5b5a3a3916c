namespace MLNetLora.Checkpoints;

/// <summary>Where a model comes from: a folder, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct that the Hugging Face cache of this machine already holds. Nothing is downloaded.</summary>
public static class ModelFolder
{
    /// <summary>Finds the folder of a model.</summary>
    /// <param name="model">A folder, or OWNER/NAME looked up in the cache: HF_HUB_CACHE, else HF_HOME/hub, else ~/.cache/huggingface/hub.</param>
    /// <returns>The folder, absolute.</returns>
    /// <exception cref="CheckpointException">There is neither; the message says where was looked and how to get the model.</exception>
    public static string Find(string model)
    {
        if (Directory.Exists(model))
        {
            return Path.GetFullPath(model);
        }

        string[] parts = model.Split('/');
        bool isHubId = parts.Length == 2 && parts.All(part => part.Length > 0 && part is not "." and not ".." && part.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-'));
        if (!isHubId)
        {
            throw new CheckpointException($"There is no folder '{Path.GetFullPath(model)}'. Give the folder of a Hugging Face checkpoint, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct.");
        }

        string cache = Cache();
        string repository = Path.Combine(cache, $"models--{parts[0]}--{parts[1]}");
        string main = Path.Combine(repository, "refs", "main");
        string snapshots = Path.Combine(repository, "snapshots");
        string? snapshot = File.Exists(main) && Directory.Exists(Path.Combine(snapshots, Path.GetFileName(File.ReadAllText(main).Trim())))
            ? Path.Combine(snapshots, Path.GetFileName(File.ReadAllText(main).Trim()))
            : Directory.Exists(snapshots) ? Directory.EnumerateDirectories(snapshots).OrderByDescending(Directory.GetLastWriteTimeUtc).FirstOrDefault() : null;
        return snapshot ?? throw new CheckpointException($"'{model}' is neither a folder nor in the Hugging Face cache ({cache}). Download it once, for example with 'hf download {model}' or 'git clone', and give its folder.");
    }

    private static string Cache()
    {
        if (Environment.GetEnvironmentVariable("HF_HUB_CACHE") is { Length: > 0 } cache)
        {
            return cache;
        }

        string home = Environment.GetEnvironmentVariable("HF_HOME") is { Length: > 0 } set ? set : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache", "huggingface");
        return Path.Combine(home, "hub");
    }
}
