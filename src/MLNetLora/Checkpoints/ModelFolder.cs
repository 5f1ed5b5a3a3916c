namespace MLNetLora.Checkpoints;

/// <summary>Where a model comes from: a folder, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct or Qwen/Qwen2.5-0.5B-Instruct@REVISION in the Hugging Face cache of
/// this machine, into which <see cref="ModelHub"/> downloads.</summary>
public static class ModelFolder
{
    /// <summary>Finds the folder of a model; nothing is downloaded.</summary>
    /// <param name="model">A folder, or OWNER/NAME looked up in the cache: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else
    /// huggingface/hub in XDG_CACHE_HOME, else ~/.cache/huggingface/hub. Where both exist, the folder is meant. OWNER/NAME@REVISION is one of the model's
    /// snapshots there: a branch, a tag, a commit or the first digits of one.</param>
    /// <returns>The folder, absolute.</returns>
    /// <exception cref="CheckpointException">There is neither; the message says where was looked and how to get the model.</exception>
    public static string Find(string model)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (Directory.Exists(model))
        {
            return Path.GetFullPath(model);
        }

        if (File.Exists(model))
        {
            throw new CheckpointException(NotSafetensors.Of(model) is { } what
                ? $"{Path.GetFullPath(model)} {what}"
                : $"{Path.GetFullPath(model)} is a file. Give the folder of a Hugging Face checkpoint: config.json, *.safetensors and tokenizer files.");
        }

        if (!HubId.TryParse(model, out HubId id))
        {
            string folder = model.Length == 0 || model.Contains('\0') ? model.Replace('\0', '?') : Path.GetFullPath(model);
            throw new CheckpointException(
                $"There is no folder '{folder}'. Give the folder of a Hugging Face checkpoint, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct.");
        }

        string command = id.Revision is null ? $"hf download {id.Name}" : $"hf download {id.Name} --revision {id.Revision}";
        return Snapshots(model) is [string snapshot, ..]
            ? snapshot
            : throw new CheckpointException($"'{model}' is neither a folder nor in the Hugging Face cache ({Cache()}). Download it once, for example with "
                + $"ModelHub.DownloadAsync, '{command}' or 'git clone', and give its folder.");
    }

    /// <summary>Finds the folder of a model, and downloads it where it is given by a hub id of which the cache holds no whole snapshot.</summary>
    /// <remarks>A snapshot that is there is taken as it is, without asking the hub whether the branch has moved on; <see cref="ModelHub.DownloadAsync"/>
    /// asks.</remarks>
    /// <param name="model">As for <see cref="Find"/>.</param>
    /// <param name="options">How it is downloaded; null takes what the environment says.</param>
    /// <param name="progress">Told at most ten times a second, from any thread; null for none.</param>
    /// <param name="cancellationToken">Ends the download; what has arrived is kept for the next one.</param>
    /// <returns>The folder, absolute.</returns>
    /// <exception cref="CheckpointException">It is neither a folder nor a hub id.</exception>
    /// <exception cref="HubException">It cannot be downloaded; see <see cref="ModelHub.DownloadAsync"/>.</exception>
    /// <exception cref="OptionException">An option makes no sense.</exception>
    public static async Task<string> FindOrDownloadAsync(
        string model,
        HubDownloadOptions? options = null,
        IProgress<HubProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        options = options?.Copy() ?? new HubDownloadOptions();
        options.Validate();
        if (Directory.Exists(model) || File.Exists(model) || !HubId.TryParse(model, out HubId id))
        {
            return Find(model);
        }

        return ModelHub.Kept(id, options) ?? await ModelHub.DownloadAsync(model, options, progress, cancellationToken).ConfigureAwait(false);
    }

    /// <summary>Whether the text could be a hub id, OWNER/NAME or OWNER/NAME@REVISION; it may be a relative path as well.</summary>
    internal static bool IsHubId(string model) => HubId.TryParse(model, out _);

    /// <summary>The folders of all revisions that the cache holds of a hub id, or of the one that it names, absolute: first the one that refs/main names, then
    /// the newest. Empty where it holds none.</summary>
    internal static IReadOnlyList<string> Snapshots(string hubId) =>
        HubId.TryParse(hubId, out HubId id) ? new HubRepository(Cache(), id.Name).Snapshots(id.Revision) : [];

    /// <summary>The folder of the Hugging Face cache, absolute, as huggingface_hub finds it; it need not exist.</summary>
    internal static string Cache() => HubEnvironment.Process.Cache;
}
