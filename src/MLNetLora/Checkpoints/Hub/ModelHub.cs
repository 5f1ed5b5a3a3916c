namespace MLNetLora.Checkpoints;

/// <summary>Downloads models from Hugging Face or ModelScope into the Hugging Face cache, where Python's tools find them too.</summary>
public static class ModelHub
{
    /// <summary>Downloads what this library needs of a model (configuration, tokenizer, chat template, safetensors; licence and README), unless the cache holds
    /// it already, and verifies its hashes.</summary>
    /// <remarks>A download that was cut, cancelled or killed goes on where it stopped. Several processes may ask for one model at once.</remarks>
    /// <param name="model">OWNER/NAME or OWNER/NAME@REVISION, where the revision is a branch, a tag, a commit or the first digits of one; without it the main
    /// branch.</param>
    /// <param name="options">Source, token, cache and the rest; null takes what the environment says.</param>
    /// <param name="progress">Told at most ten times a second, from any thread; null for none.</param>
    /// <param name="cancellationToken">Ends the download; what has arrived is kept for the next one.</param>
    /// <returns>The folder of the snapshot, absolute.</returns>
    /// <exception cref="HubException">There is no such model, revision or file, it is gated, the server or the network fails, a hash is wrong, the disk is full,
    /// or <see cref="HubDownloadOptions.Offline"/> holds and the cache has no such model.</exception>
    /// <exception cref="OptionException">An option makes no sense, or the model is no hub id.</exception>
    public static async Task<string> DownloadAsync(
        string model,
        HubDownloadOptions? options = null,
        IProgress<HubProgress>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        options = options?.Copy() ?? new HubDownloadOptions();
        options.Validate();
        HubId id = HubId.TryParse(model, out HubId parsed)
            ? parsed
            : throw new OptionException($"'{HubErrors.Shown(model)}' is no hub id; it must be OWNER/NAME or OWNER/NAME@REVISION, such as Qwen/Qwen2.5-0.5B-Instruct.");
        try
        {
            return await new HubDownload(id, options, progress).RunAsync(cancellationToken).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (cancellationToken.IsCancellationRequested)
        {
            throw new OperationCanceledException($"The download of {id} was cancelled; what has arrived is kept.", e, cancellationToken);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new HubException($"{id} cannot be written to the Hugging Face cache {options.Cache}: {e.Message} HF_HOME can name another folder.", e);
        }
    }

    /// <summary>The whole snapshot of a revision that the cache holds; null where it holds none.</summary>
    /// <exception cref="CheckpointException">The cache cannot be read.</exception>
    internal static string? Kept(HubId id, HubDownloadOptions options) => new HubDownload(id, options, progress: null).Kept;
}
