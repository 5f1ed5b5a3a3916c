namespace MLNetLora.Checkpoints;

/// <summary>How a model is downloaded. Null leaves an option to the environment variables that huggingface_hub and modelscope read, so that one setting
/// serves all programs of a machine.</summary>
public sealed class HubDownloadOptions
{
    internal const string TokenForm = "of printable ASCII characters without spaces";
    private const int MostConnections = 64;

    /// <summary>Where the model is downloaded from. Null (default): ModelScope where USE_MODELSCOPE_HUB (LLaMA-Factory's variable) is 1, true, yes or on, else
    /// Hugging Face.</summary>
    public HubSource? Source { get; set; }

    /// <summary>Address of the site or of a mirror, such as https://hf-mirror.com. Null (default): HF_ENDPOINT, else https://huggingface.co; for ModelScope
    /// MODELSCOPE_ENDPOINT, else MODELSCOPE_DOMAIN, else https://modelscope.cn.</summary>
    public string? Endpoint { get; set; }

    /// <summary>
    /// Access token; empty sends none. It goes to <see cref="Endpoint"/> alone, never to where that redirects. Null (default): HF_TOKEN, else
    /// HUGGING_FACE_HUB_TOKEN, else the file that <c>hf auth login</c> writes (HF_TOKEN_PATH, else token in HF_HOME), and none where
    /// HF_HUB_DISABLE_IMPLICIT_TOKEN is 1; for ModelScope MODELSCOPE_API_TOKEN.
    /// </summary>
    public string? Token { get; set; }

    /// <summary>Whether nothing may be asked of a network: a model is then found in the cache, or an error. Null (default): as HF_HUB_OFFLINE, else
    /// TRANSFORMERS_OFFLINE say (1, true, yes, on). huggingface_hub's name: local_files_only.</summary>
    public bool? Offline { get; set; }

    /// <summary>The Hugging Face cache into which the files come. Null (default): HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else hub in HF_HOME, else
    /// huggingface/hub in XDG_CACHE_HOME, else ~/.cache/huggingface/hub.</summary>
    public string? CacheFolder { get; set; }

    /// <summary>How many connections load at once, 1 to 64. Each takes 8 MiB of memory. Default 4. huggingface_hub's name: max_workers.</summary>
    public int Connections { get; set; } = 4;

    /// <summary>How long a server may say nothing before the connection counts as cut. Default 30 seconds. huggingface_hub's name:
    /// HF_HUB_DOWNLOAD_TIMEOUT.</summary>
    public TimeSpan Timeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How often in a row something that may pass (a cut connection, 429, 5xx) is tried again, 0 to 100, with pauses that double; what has arrived
    /// is kept, and an attempt that brings a byte starts the count anew. Default 5.</summary>
    public int Retries { get; set; } = 5;

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        if (Source is { } source)
        {
            Require.Defined(source, nameof(Source));
        }

        Require.That(Endpoint is null || IsEndpoint(Endpoint), nameof(Endpoint), Endpoint, "an address such as https://huggingface.co, or null");
        Require.That(Token is null || IsToken(Token), nameof(Token), "not shown", TokenForm);
        Require.That(CacheFolder is null || !string.IsNullOrWhiteSpace(CacheFolder), nameof(CacheFolder), "empty", "a folder, or null");
        Require.That(Connections is >= 1 and <= MostConnections, nameof(Connections), Connections, $"1 to {MostConnections}");
        Require.That(Timeout > TimeSpan.Zero && Timeout.TotalDays <= 1, nameof(Timeout), Timeout, "above 0 and at most a day");
        Require.That(Retries is >= 0 and <= 100, nameof(Retries), Retries, "0 to 100");
    }

    /// <summary>The machine; a test has another one.</summary>
    internal HubEnvironment Environment { get; set; } = HubEnvironment.Process;

    /// <summary>The folder that the models come to, absolute.</summary>
    internal string Cache => CacheFolder is null ? Environment.Cache : Path.GetFullPath(CacheFolder);

    internal static bool IsToken(string text) => text.All(c => c is > ' ' and <= '~');

    internal static bool IsEndpoint(string text) =>
        Uri.TryCreate(text, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https" && uri is { Query: "", Fragment: "", UserInfo: "" };

    internal HubDownloadOptions Copy() => (HubDownloadOptions)MemberwiseClone();
}
