using System.Text;

namespace MLNetLora.Checkpoints;

/// <summary>
/// One download of one model. Contents come first, then the snapshot's links to them, then the branch that names the snapshot: what is stopped in between
/// leaves contents that the next download finds, and no snapshot that is half there.
/// </summary>
internal sealed class HubDownload
{
    // https://bford.info/cachedir: programs that make backups leave such a folder out. huggingface_hub writes it too.
    private const string CacheTag = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder is a cache of models; see https://bford.info/cachedir/\n";

    private readonly HubId _id;
    private readonly HubDownloadOptions _options;
    private readonly string _cache;
    private readonly HubRepository _repository;
    private readonly HubMeter _meter;
    private readonly HubSite _site;
    private readonly string? _token;

    public HubDownload(HubId id, HubDownloadOptions options, IProgress<HubProgress>? progress)
    {
        _id = id;
        _options = options;
        _cache = options.Cache;
        _repository = new HubRepository(_cache, id.Name);
        _meter = new HubMeter(id.ToString(), progress);
        (_site, _token) = HubSite.Of(options);
    }

    /// <summary>The whole snapshot of the revision that the cache holds; null where it holds none. What has come from the one site will do for the
    /// other.</summary>
    public string? Kept => (_id.Revision is { } revision ? [revision] : (string[])[_site.DefaultRevision, "main", "master"])
        .SelectMany(_repository.Snapshots)
        .FirstOrDefault(ModelFiles.IsWhole);

    /// <summary>The folder of the snapshot.</summary>
    public async Task<string> RunAsync(CancellationToken cancellation)
    {
        if (_options.Offline ?? _options.Environment.IsOffline)
        {
            return Kept ?? _repository.Snapshots(_id.Revision).FirstOrDefault(ModelFiles.IsWhole) ?? throw new HubException(
                $"{_id} is not in the Hugging Face cache {_cache}{(_repository.Snapshots(_id.Revision).Count > 0 ? ", or only a part of it" : "")}, and nothing may be "
                + $"downloaded: {(_options.Offline is null ? "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set" : "Offline is true")}.");
        }

        // A commit is the same forever; whether a branch has moved on only the hub knows.
        if (_id.Revision is { } revision && HubId.IsCommit(revision) && Kept is { } kept)
        {
            return kept;
        }

        _meter.Tell($"Looking for {_id} on {_site.Name} ({_site.Endpoint.Host}).");
        using HubClient client = new(_site, _id, _token, _options, _meter);
        HubListing listing = await client.ListAsync(cancellation).ConfigureAwait(false);
        List<HubFile> files = await DescribedAsync(client, listing, ModelFiles.Needed(listing, _id.ToString()), cancellation).ConfigureAwait(false);
        HashSet<string> fresh = [];
        if (files.FirstOrDefault(file => file.Path == WeightFiles.IndexName) is { } index)
        {
            await LoadAsync(client, listing, [index], fresh, cancellation).ConfigureAwait(false);
            bool isLinked = _repository.HasFile(listing.Commit, index);
            string path = isLinked ? _repository.File(listing.Commit, index.Path) : _repository.Blob(index.Blob);
            files.AddRange(await DescribedAsync(client, listing, ModelFiles.Shards(path, listing, _id.ToString()), cancellation).ConfigureAwait(false));
        }

        await LoadAsync(client, listing, files, fresh, cancellation).ConfigureAwait(false);
        Finish(listing, files, fresh);
        return _repository.Snapshot(listing.Commit);
    }

    /// <summary>The files with their lengths and names of blobs, which some mirrors do not list.</summary>
    private static async Task<List<HubFile>> DescribedAsync(
        HubClient client, HubListing listing, IReadOnlyList<HubFile> files, CancellationToken cancellation)
    {
        List<HubFile> described = [];
        foreach (HubFile file in files)
        {
            described.Add(file is { Size: >= 0, Blob.Length: > 0 }
                ? file
                : await client.DescribeAsync(file, listing.Revision, cancellation).ConfigureAwait(false));
        }

        return described;
    }

    /// <summary>Brings the contents of files that the snapshot does not have: small ones beside each other, large ones one after the other in parts.</summary>
    private async Task LoadAsync(HubClient client, HubListing listing, IReadOnlyList<HubFile> files, HashSet<string> fresh, CancellationToken cancellation)
    {
        HubFile[] missing = [.. files.Where(file => !_repository.HasFile(listing.Commit, file)).DistinctBy(file => file.Blob)];
        if (missing.Length == 0)
        {
            return;
        }

        RequireSpace(missing);
        long all = files.Sum(file => file.Size);
        _meter.Expect(all, all - missing.Sum(file => file.Size));
        ParallelOptions parallel = new() { MaxDegreeOfParallelism = _options.Connections, CancellationToken = cancellation };
        await Parallel.ForEachAsync(missing.Where(file => file.Size <= _options.Environment.PartBytes), parallel, async (file, token) =>
            await LoadAsync(client, listing, file, fresh, token).ConfigureAwait(false)).ConfigureAwait(false);
        foreach (HubFile file in missing.Where(file => file.Size > _options.Environment.PartBytes))
        {
            await LoadAsync(client, listing, file, fresh, cancellation).ConfigureAwait(false);
        }
    }

    private async Task LoadAsync(HubClient client, HubListing listing, HubFile file, HashSet<string> fresh, CancellationToken cancellation)
    {
        using IDisposable held = await HubLock.TakeAsync(
            _repository.Lock(file.Blob),
            () => _meter.Tell($"Another process is downloading {file.Path} of {_id}; waiting for it."),
            cancellation).ConfigureAwait(false);
        if (await new BlobDownload(client, _repository, file, listing.Revision, _options, _meter).RunAsync(cancellation).ConfigureAwait(false))
        {
            lock (fresh)
            {
                fresh.Add(file.Blob);
            }
        }
    }

    /// <summary>Makes the snapshot of the contents, config.json last, and writes down what the branch is.</summary>
    private void Finish(HubListing listing, IReadOnlyList<HubFile> files, HashSet<string> fresh)
    {
        bool links = !_options.Environment.IsOn("HF_HUB_DISABLE_SYMLINKS");
        foreach (HubFile file in files.OrderBy(file => file.Path == ModelFiles.ConfigName))
        {
            bool isNew = fresh.Contains(file.Blob) && files.Count(other => other.Blob == file.Blob) == 1;
            _repository.Link(listing.Commit, file, isNew, links);
        }

        _repository.WriteRef(_id.Revision ?? _site.DefaultRevision, listing.Commit);
    }

    private void RequireSpace(IEnumerable<HubFile> missing)
    {
        Directory.CreateDirectory(_cache);
        string tag = Path.Combine(_cache, "CACHEDIR.TAG");
        if (!File.Exists(tag))
        {
            AtomicFile.Write(tag, stream => stream.Write(Encoding.ASCII.GetBytes(CacheTag)));
        }

        Int128 bytes = missing.Where(file => !_repository.HasBlob(file))
            .Aggregate(Int128.Zero, (sum, file) => sum + file.Size - Math.Clamp(HubRepository.Length(_repository.Incomplete(file.Blob)), 0, file.Size));
        if (_options.Environment.FreeSpace(_cache) is { } free && free < bytes)
        {
            throw new HubException(FormattableString.Invariant(
                $"{_cache} lies on a drive with {free / 1e6:F0} MB left, and {(double)bytes / 1e6:F0} MB of {_id} are to come. Make room, or set HF_HOME to another drive."));
        }
    }
}
