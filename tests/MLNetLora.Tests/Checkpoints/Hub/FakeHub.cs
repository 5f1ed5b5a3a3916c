using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>
/// A hub with one model, a cache to download it into, and a machine that has no environment variables and waits for nothing. Answers as huggingface.co does:
/// the list tells commit, lengths and hashes; a file's address answers with X-Repo-Commit and ETag, and with bytes or ranges.
/// </summary>
internal sealed class FakeHub : IDisposable
{
    public const string Id = "Test/model-1.5";
    public const string First = "1111111111111111111111111111111111111111";
    public const string Second = "2222222222222222222222222222222222222222";

    private readonly TemporaryFolder _folder = new();

    public FakeHub(IReadOnlyDictionary<string, byte[]>? files = null)
    {
        Files = files is null ? Small() : new(files);
        Server = new HubServer(request => Misbehaviour?.Invoke(request) ?? Answer(request));
    }

    public HubServer Server { get; }

    /// <summary>The files of the model at every revision.</summary>
    public Dictionary<string, byte[]> Files { get; }

    /// <summary>What the branches and tags are.</summary>
    public Dictionary<string, string> Revisions { get; } = new() { ["main"] = First, ["v1.0"] = First, ["refs/pr/1"] = Second };

    /// <summary>Asked before the hub answers as it should; null for an answer as it should be.</summary>
    public Func<HubRequest, HubReply?>? Misbehaviour { get; set; }

    /// <summary>Environment variables of the machine.</summary>
    public Dictionary<string, string> Variables { get; } = [];

    /// <summary>The pauses before something was tried again.</summary>
    public List<TimeSpan> Pauses { get; } = [];

    public long? FreeSpace { get; set; }

    public Func<Stream, Stream> Disk { get; set; } = stream => stream;

    public string Cache => _folder.File("hub");

    public string Repository => Path.Combine(Cache, "models--Test--model-1.5");

    public string Snapshot(string commit = First) => Path.Combine(Repository, "snapshots", commit);

    public string Blob(string name) => Path.Combine(Repository, "blobs", Etag(name));

    /// <summary>What the cache names a content by: SHA-256 of weights, git's hash of the rest.</summary>
    public string Etag(string name) => IsLarge(name) ? Convert.ToHexStringLower(SHA256.HashData(Files[name])) : GitHash(Files[name]);

    public static string GitHash(byte[] content)
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA1);
        hash.AppendData(Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"blob {content.Length}\0")));
        hash.AppendData(content);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Options that lead to this hub; parts are small, so that a small file has several.</summary>
    public HubDownloadOptions Options(Action<HubDownloadOptions>? change = null)
    {
        HubDownloadOptions options = new()
        {
            Endpoint = Server.Address,
            CacheFolder = Cache,
            Environment = new HubEnvironment
            {
                Variable = Variables.GetValueOrDefault,
                Delay = Pause,
                FreeSpace = _ => FreeSpace,
                Disk = stream => Disk(stream),
                PartBytes = 64 << 10,
            },
        };
        change?.Invoke(options);
        return options;
    }

    public Task<string> DownloadAsync(string model = Id, Action<HubDownloadOptions>? change = null, IProgress<HubProgress>? progress = null,
        CancellationToken cancellation = default) => ModelHub.DownloadAsync(model, Options(change), progress, cancellation);

    /// <summary>The message of a download that must fail.</summary>
    public async Task<string> RefusalAsync(string model = Id, Action<HubDownloadOptions>? change = null) =>
        (await Assert.ThrowsAsync<HubException>(() => DownloadAsync(model, change))).Message;

    /// <summary>Asserts that a snapshot has the small model, whole.</summary>
    public void AssertWhole(string snapshot)
    {
        foreach (string name in new[] { "config.json", "tokenizer.json", "model.safetensors" })
        {
            Assert.Equal(Files[name], File.ReadAllBytes(Path.Combine(snapshot, name)));
        }

        Assert.Empty(Directory.EnumerateFiles(Path.Combine(Repository, "blobs"), "*.incomplete"));
    }

    /// <summary>The requests for a file, in their order.</summary>
    public HubRequest[] RequestsFor(string name) => [.. Server.Requests.Where(request => request.Name == name)];

    /// <summary>As the hub answers when nothing goes wrong.</summary>
    public HubReply Answer(HubRequest request)
    {
        string path = Uri.UnescapeDataString(request.Target.Split('?')[0]);
        string list = $"/api/models/{Id}/revision/";
        string file = $"/{Id}/resolve/";
        if (path.StartsWith(list, StringComparison.Ordinal))
        {
            string? commit = Commit(path[list.Length..]);
            return commit is null ? Error(404, "RevisionNotFound") : new HubReply(200, List(commit));
        }

        if (path.StartsWith(file, StringComparison.Ordinal) && path[file.Length..].Split('/', 2) is [string revision, string name])
        {
            return Commit(revision) is not { } commit ? Error(404, "RevisionNotFound")
                : Files.TryGetValue(name, out byte[]? content) ? Content(request, content, Etag(name), commit)
                : Error(404, "EntryNotFound");
        }

        return Error(401, "RepoNotFound");
    }

    /// <summary>Bytes, or a range of them.</summary>
    public static HubReply Content(HubRequest request, byte[] content, string etag, string? commit = null)
    {
        Dictionary<string, string> headers = new() { ["ETag"] = $"\"{etag}\"", ["Accept-Ranges"] = "bytes" };
        if (commit is not null)
        {
            headers["X-Repo-Commit"] = commit;
        }

        if (request.Range is not var (from, to))
        {
            return new HubReply(200, content) { Headers = headers };
        }

        long last = Math.Min(to ?? content.Length - 1, content.Length - 1);
        headers["Content-Range"] = string.Create(CultureInfo.InvariantCulture, $"bytes {from}-{last}/{content.Length}");
        return new HubReply(206, content[(int)from..(int)(last + 1)]) { Headers = headers };
    }

    public static HubReply Error(int status, string code, string message = "") =>
        new(status, "{}") { Headers = { ["X-Error-Code"] = code, ["X-Error-Message"] = message } };

    /// <summary>The list of files, as /api/models/ID/revision/REVISION?blobs=true tells it.</summary>
    public string List(string commit) => JsonSerializer.Serialize(new
    {
        id = Id,
        sha = commit,
        siblings = Files.Select(file => IsLarge(file.Key)
            ? (object)new
            {
                rfilename = file.Key,
                blobId = GitHash([1]),
                size = file.Value.Length,
                lfs = new { sha256 = Etag(file.Key), size = file.Value.Length, pointerSize = 134 },
            }
            : new { rfilename = file.Key, blobId = Etag(file.Key), size = file.Value.Length }),
    });

    public void Dispose()
    {
        Server.Dispose();
        _folder.Dispose();
    }

    private string? Commit(string revision) => Revisions.TryGetValue(revision, out string? commit) ? commit
        : Revisions.Values.FirstOrDefault(known => revision.Length >= 5 && known.StartsWith(revision, StringComparison.Ordinal));

    private Task Pause(TimeSpan pause, CancellationToken cancellation)
    {
        lock (Pauses)
        {
            Pauses.Add(pause);
        }

        return Task.Delay(TimeSpan.FromMilliseconds(1), cancellation);
    }

    private static bool IsLarge(string name) => name.EndsWith(".safetensors", StringComparison.Ordinal) || name.EndsWith(".bin", StringComparison.Ordinal);

    /// <summary>A model of which nothing is true but the names; the weights have five parts.</summary>
    private static Dictionary<string, byte[]> Small()
    {
        byte[] weights = new byte[300_000];
        new Random(1).NextBytes(weights);
        return new Dictionary<string, byte[]>
        {
            ["config.json"] = "{}"u8.ToArray(),
            ["tokenizer.json"] = "{ \"model\": {} }"u8.ToArray(),
            ["model.safetensors"] = weights,
        };
    }
}

/// <summary>Remembers what it is told.</summary>
internal sealed class Told : IProgress<HubProgress>
{
    private readonly List<HubProgress> _all = [];

    public IReadOnlyList<HubProgress> All
    {
        get
        {
            lock (_all)
            {
                return [.. _all];
            }
        }
    }

    public Action<HubProgress>? Also { get; init; }

    public string Messages => string.Join('\n', All.Select(progress => progress.Message).OfType<string>());

    public void Report(HubProgress value)
    {
        lock (_all)
        {
            _all.Add(value);
        }

        Also?.Invoke(value);
    }
}
