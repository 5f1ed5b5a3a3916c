using MLNetLora.Checkpoints;

namespace MLNetLora.AspNetCore;

/// <summary>
/// A folder whose folders are adapters. It is looked at again and again, because volumes of containers and networks tell of no changes. What is new, or
/// another, is loaded when two looks saw the same; what is bad is refused, while what was there before answers on.
/// </summary>
/// <param name="baseName">The base's name.</param>
/// <param name="folder">The folder.</param>
/// <param name="adapters">Where they are loaded.</param>
/// <param name="services">State, log.</param>
internal sealed class AdapterWatcher(string baseName, string folder, AdapterSet adapters, HostServices services)
{
    /// <summary>Looks until what may pass by itself is tried again.</summary>
    public const int LooksBetweenTries = 15;

    private const int LooksUntilReported = 10; // of a folder that is not complete
    private const int LooksUntilGone = 2;

    private readonly Dictionary<string, Track> _tracks = new(StringComparer.Ordinal);

    private string FolderComponent => $"{baseName}: {folder}";

    /// <summary>Whether there is something that is loaded if the next look sees it again.</summary>
    public bool IsWaiting => _tracks.Values.Any(track => track.Pending is not null);

    /// <summary>Looks once.</summary>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    public async Task LookAsync(CancellationToken cancellation)
    {
        string[] names;
        try
        {
            IEnumerable<string> all = Directory.EnumerateDirectories(folder).Select(path => Path.GetFileName(path));
            names = [.. all.Where(name => !name.StartsWith('.')).Order(StringComparer.Ordinal)];
            services.State.Clear(FolderComponent);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A volume that is away for a moment does not take the adapters with it.
            if (services.State.Report(new ServingIssue(FolderComponent, $"the watched folder cannot be read: {e.Message}", IsMissing: false)))
            {
                HostLog.FolderFailed(services.Log, folder, e.Message);
            }

            return;
        }

        foreach (string name in names)
        {
            Track track = _tracks.TryGetValue(name, out Track? known) ? known : _tracks[name] = new Track();
            track.LooksGone = 0;
            await LookAsync(name, track, cancellation).ConfigureAwait(false);
        }

        foreach ((string name, Track track) in _tracks.Where(track => !names.Contains(track.Key)).ToArray())
        {
            if (++track.LooksGone < LooksUntilGone)
            {
                continue;
            }

            _tracks.Remove(name);
            services.State.Clear(Component(name));
            if (track.Hash is not null)
            {
                await adapters.UnloadAsync(name, AdapterSource.Folder, cancellation).ConfigureAwait(false);
            }
        }
    }

    private async Task LookAsync(string name, Track track, CancellationToken cancellation)
    {
        string path = Path.Combine(folder, name);
        try
        {
            string stamp = AdapterFolder.Stamp(path, out string? missing);
            if (stamp != track.Last)
            {
                track.See(stamp, isComplete: missing is null);
                return;
            }

            track.Looks++;
            if (missing is not null)
            {
                if (track.Looks == LooksUntilReported)
                {
                    Refuse(name, track, $"{missing} is missing or empty");
                }
            }
            else if (track.Pending is not null || (track.MayPass && track.Looks % LooksBetweenTries == 0))
            {
                await LoadAsync(name, path, stamp, track, cancellation).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Files that go while they are looked at; the next look knows more.
            track.See(last: null, isComplete: false);
            if (++track.Failures == LooksUntilReported)
            {
                Refuse(name, track, e.Message);
            }
        }
    }

    private async Task LoadAsync(string name, string path, string stamp, Track track, CancellationToken cancellation)
    {
        track.Pending = null;
        string hash = AdapterFolder.Hash(path);
        if (hash == track.Hash)
        {
            Accept(name, track, hash); // written again, with the same in it, or put back
            return;
        }

        AdapterRefusal? refusal = await adapters
            .LoadAsync(name, RealPath.Of(path), AdapterSource.Folder, mayReplace: true, IsSame, cancellation).ConfigureAwait(false);
        if (refusal is null)
        {
            Accept(name, track, hash);
            return;
        }

        if (!IsSame())
        {
            track.See(last: null, isComplete: false);
            return;
        }

        track.MayPass = refusal.MayPass;
        Refuse(name, track, refusal.Error.Message);

        bool IsSame()
        {
            try
            {
                return AdapterFolder.Stamp(path, out _) == stamp;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return false;
            }
        }
    }

    private void Accept(string name, Track track, string hash)
    {
        (track.Hash, track.MayPass, track.Failures) = (hash, false, 0);
        services.State.Clear(Component(name));
    }

    private void Refuse(string name, Track track, string reason)
    {
        string served = track.Hash is null ? "" : " The one that was loaded before answers on.";
        string sentence = $"{reason.TrimEnd('.')}.{served}";
        if (services.State.Report(new ServingIssue(Component(name), sentence, IsMissing: false)))
        {
            HostLog.AdapterRefused(services.Log, name, folder, sentence);
            services.Metrics.AdapterFailed(baseName);
        }
    }

    private string Component(string name) => $"{baseName}: adapter {name}";

    /// <summary>What is remembered of a folder.</summary>
    private sealed class Track
    {
        /// <summary>What the last look saw; null where it saw nothing whole.</summary>
        public string? Last { get; private set; }

        /// <summary>What is loaded if the next look sees it again.</summary>
        public string? Pending { get; set; }

        /// <summary>Looks that saw the same.</summary>
        public int Looks { get; set; }

        /// <summary>Of what is loaded; null for nothing.</summary>
        public string? Hash { get; set; }

        /// <summary>Whether what was refused may be taken later.</summary>
        public bool MayPass { get; set; }

        public int Failures { get; set; }

        public int LooksGone { get; set; }

        public void See(string? last, bool isComplete) => (Last, Pending, Looks, MayPass) = (last, isComplete ? last : null, 0, false);
    }
}
