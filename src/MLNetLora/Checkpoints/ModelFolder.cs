using System.Text.RegularExpressions;

namespace MLNetLora.Checkpoints;

/// <summary>Where a model comes from: a folder, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct that the Hugging Face cache of this machine already
/// holds. Nothing is downloaded.</summary>
public static partial class ModelFolder
{
    private const int LongestRevision = 1024; // bytes; a commit has 40 digits

    /// <summary>Finds the folder of a model.</summary>
    /// <param name="model">A folder, or OWNER/NAME looked up in the cache: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else HF_HOME/hub, else
    /// huggingface/hub in XDG_CACHE_HOME, else ~/.cache/huggingface/hub. Where both exist, the folder is meant.</param>
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

        if (!IsHubId(model))
        {
            string folder = model.Length == 0 || model.Contains('\0') ? model.Replace('\0', '?') : Path.GetFullPath(model);
            throw new CheckpointException(
                $"There is no folder '{folder}'. Give the folder of a Hugging Face checkpoint, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct.");
        }

        return Snapshots(model) is [string snapshot, ..]
            ? snapshot
            : throw new CheckpointException($"'{model}' is neither a folder nor in the Hugging Face cache ({Cache()}). Download it once, for example with 'hf "
                + $"download {model}' or 'git clone', and give its folder.");
    }

    /// <summary>Finds the folder of a model, and downloads it where it is given by a hub id of which the cache holds no whole snapshot.</summary>
    /// <param name="model">As for <see cref="Find"/>.</param>
    /// <param name="options">How it is downloaded; null takes what the environment says.</param>
    /// <param name="progress">Told at most ten times a second, from any thread; null for none.</param>
    /// <param name="cancellationToken">Ends the download; what has arrived is kept for the next one.</param>
    /// <returns>The folder, absolute.</returns>
    /// <exception cref="CheckpointException">It is neither a folder nor a hub id.</exception>
    /// <exception cref="HubException">It cannot be downloaded; see <see cref="ModelHub.DownloadAsync"/>.</exception>
    /// <exception cref="OptionException">An option makes no sense.</exception>
    public static Task<string> FindOrDownloadAsync(
        string model,
        HubDownloadOptions? options = null,
        IProgress<HubProgress>? progress = null,
        CancellationToken cancellationToken = default) => throw new NotSupportedException();

    /// <summary>Whether the text could be a hub id, OWNER/NAME; it may be a relative path as well.</summary>
    internal static bool IsHubId(string model)
    {
        string[] parts = model.Split('/');
        return parts.Length == 2 && parts.All(part => part is not ("" or "." or "..") && part.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-'));
    }

    /// <summary>The folders of all revisions that the cache holds of a hub id, absolute: first the one that refs/main names, then the newest. Empty
    /// where it holds none.</summary>
    internal static IReadOnlyList<string> Snapshots(string hubId)
    {
        string repository = Path.Combine(Cache(), "models--" + hubId.Replace("/", "--", StringComparison.Ordinal));
        string snapshots = Path.Combine(repository, "snapshots");
        try
        {
            string main = Path.Combine(repository, "refs", "main");
            string revision = File.Exists(main) ? BoundedFile.ReadText(main, LongestRevision)?.Trim() ?? "" : "";
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

    /// <summary>The folder of the Hugging Face cache, absolute, as huggingface_hub finds it; it need not exist.</summary>
    internal static string Cache()
    {
        string caches = Variable("XDG_CACHE_HOME") ?? Path.Combine(Home, ".cache");
        string home = Variable("HF_HOME") ?? Path.Combine(caches, "huggingface");
        return Path.GetFullPath(Variable("HF_HUB_CACHE") ?? Variable("HUGGINGFACE_HUB_CACHE") ?? Path.Combine(home, "hub"));
    }

    private static string Home => Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);

    /// <summary>A variable that holds a folder, with ~ for the user's folder and $NAME, ${NAME} for other variables, as Python expands them; null
    /// where it is not set.</summary>
    private static string? Variable(string name)
    {
        if (Environment.GetEnvironmentVariable(name) is not { Length: > 0 } value)
        {
            return null;
        }

        value = value == "~" || value.StartsWith("~/", StringComparison.Ordinal) ? Home + value[1..] : value;
        return VariableName().Replace(value, match => Environment.GetEnvironmentVariable(match.Groups["name"].Value) ?? match.Value);
    }

    [GeneratedRegex(@"\$(\{(?<name>\w+)\}|(?<name>\w+))")]
    private static partial Regex VariableName();
}
