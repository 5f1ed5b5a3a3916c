using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>What a download leaves in the cache, by the rules of huggingface_hub (its guide "Understand caching"), so that Python's tools find it.</summary>
public sealed class HubLayoutTests : IDisposable
{
    private readonly FakeHub _hub = new();

    public void Dispose() => _hub.Dispose();

    [Fact]
    public async Task The_cache_is_as_huggingface_hub_lays_it_out()
    {
        string snapshot = await _hub.DownloadAsync();

        // models--OWNER--NAME/snapshots/COMMIT, one folder for each commit.
        Assert.Equal(_hub.Snapshot(), snapshot);
        _hub.AssertWhole(snapshot);

        // refs/BRANCH holds the commit, and nothing else: no line ends it.
        Assert.Equal(FakeHub.First, File.ReadAllText(Path.Combine(_hub.Repository, "refs", "main")));

        // blobs/ETAG: SHA-256 of what is in LFS, git's hash of the rest.
        Assert.Equal(
            _hub.Files.Keys.Select(_hub.Etag).Order(StringComparer.Ordinal),
            new DirectoryInfo(Path.Combine(_hub.Repository, "blobs")).EnumerateFiles().Select(file => file.Name).Order(StringComparer.Ordinal));

        // .locks/models--OWNER--NAME/ETAG.lock, beside the models.
        Assert.True(File.Exists(Path.Combine(_hub.Cache, ".locks", "models--Test--model-1.5", $"{_hub.Etag("model.safetensors")}.lock")));
        Assert.StartsWith("Signature: 8a477f597d28d172789f06886806bc55", File.ReadAllText(Path.Combine(_hub.Cache, "CACHEDIR.TAG")), StringComparison.Ordinal);
        Assert.Equal(["blobs", "refs", "snapshots"], Directory.EnumerateDirectories(_hub.Repository).Select(Path.GetFileName).Order(StringComparer.Ordinal));
    }

    [LinuxFact]
    public async Task Files_of_a_snapshot_are_relative_links_to_blobs()
    {
        _hub.Files["additional_chat_templates/tool_use.jinja"] = "{{ messages }}"u8.ToArray();
        string snapshot = await _hub.DownloadAsync();

        Assert.Equal($"../../blobs/{_hub.Etag("config.json")}", new FileInfo(Path.Combine(snapshot, "config.json")).LinkTarget);
        Assert.Equal($"../../../blobs/{_hub.Etag("additional_chat_templates/tool_use.jinja")}",
            new FileInfo(Path.Combine(snapshot, "additional_chat_templates", "tool_use.jinja")).LinkTarget);

        // The cache may be moved as a whole.
        string elsewhere = _hub.Cache + "-moved";
        Directory.Move(_hub.Cache, elsewhere);
        Assert.Equal(_hub.Files["config.json"], File.ReadAllBytes(Path.Combine(elsewhere, Path.GetRelativePath(_hub.Cache, snapshot), "config.json")));
    }

    [Fact]
    public async Task Where_links_cannot_be_made_the_files_themselves_stand_in_the_snapshot()
    {
        _hub.Variables["HF_HUB_DISABLE_SYMLINKS"] = "1";
        _hub.Files["NOTICE"] = _hub.Files["config.json"]; // two files with one content
        string snapshot = await _hub.DownloadAsync();

        Assert.All(new DirectoryInfo(snapshot).EnumerateFiles(), file => Assert.Null(file.LinkTarget));
        _hub.AssertWhole(snapshot);
        Assert.Equal(_hub.Files["NOTICE"], File.ReadAllBytes(Path.Combine(snapshot, "NOTICE")));
        Assert.False(File.Exists(_hub.Blob("model.safetensors"))); // it takes its place once

        int asked = _hub.Server.Requests.Count;
        Assert.Equal(snapshot, await _hub.DownloadAsync());
        Assert.Equal(asked + 1, _hub.Server.Requests.Count); // for the list alone
    }

    [Theory]
    [InlineData("main", "main")]
    [InlineData("v1.0", "v1.0")]
    [InlineData("refs/pr/1", "refs/pr/1")]
    [InlineData("11111", "11111")]
    [InlineData(FakeHub.Second, null)] // a commit needs no other name
    public async Task A_revision_is_a_branch_a_tag_a_commit_or_its_first_digits(string revision, string? reference)
    {
        string commit = revision is "refs/pr/1" or FakeHub.Second ? FakeHub.Second : FakeHub.First;
        string snapshot = await _hub.DownloadAsync($"{FakeHub.Id}@{revision}");

        Assert.Equal(_hub.Snapshot(commit), snapshot);
        string refs = Path.Combine(_hub.Repository, "refs");
        Assert.Equal(
            reference is null ? [] : [reference],
            !Directory.Exists(refs) ? [] : Directory.EnumerateFiles(refs, "*", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(refs, file).Replace('\\', '/')));
        Assert.All(_hub.RequestsFor("config.json"), request => Assert.Contains($"/resolve/{commit}/", request.Target));
        Assert.Equal(snapshot, Assert.Single(new HubRepository(_hub.Cache, FakeHub.Id).Snapshots(revision)));
    }

    [Fact]
    public async Task Only_what_this_library_reads_is_downloaded()
    {
        string[] needed =
        [
            "README.md", "LICENSE", "generation_config.json", "tokenizer_config.json", "vocab.json", "merges.txt", "qwen.tiktoken", "chat_template.jinja",
            "special_tokens_map.json", "added_tokens.json",
        ];
        string[] others =
        [
            "pytorch_model.bin", "model.gguf", "onnx/model.onnx", "original/consolidated.00.pth", "consolidated.safetensors", "tf_model.h5", "modeling.py",
            "original/config.json", "model-00001-of-00001.safetensors", ".gitattributes", "figures/a b.png", "deep/qwen.tiktoken",
        ];
        foreach (string name in needed.Concat(others))
        {
            _hub.Files[name] = System.Text.Encoding.UTF8.GetBytes(name);
        }

        string snapshot = await _hub.DownloadAsync();

        Assert.Equal(
            needed.Concat(["config.json", "tokenizer.json", "model.safetensors"]).Order(StringComparer.Ordinal),
            Directory.EnumerateFiles(snapshot, "*", SearchOption.AllDirectories).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.All(others, name => Assert.DoesNotContain(_hub.Server.Requests, request => Uri.UnescapeDataString(request.Target).EndsWith(name, StringComparison.Ordinal)
            && request.Target.Contains("/resolve/", StringComparison.Ordinal) && !needed.Contains(request.Name) && request.Name != "config.json"));
    }

    [Fact]
    public async Task Of_weights_in_shards_those_come_that_the_index_names()
    {
        _hub.Files["model-1-of-2.safetensors"] = [1, 2, 3];
        _hub.Files["model-2-of-2.safetensors"] = _hub.Files["model.safetensors"];
        _hub.Files["model-old.safetensors"] = [4];
        _hub.Files["model.safetensors.index.json"] = """{ "weight_map": { "a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors" } }"""u8.ToArray();
        _hub.Files.Remove("model.safetensors");

        string snapshot = await _hub.DownloadAsync();

        Assert.Equal(["model-1-of-2.safetensors", "model-2-of-2.safetensors"],
            Directory.EnumerateFiles(snapshot, "*.safetensors").Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.True(ModelFiles.IsWhole(snapshot));
        File.Delete(Path.Combine(snapshot, "model-1-of-2.safetensors"));
        Assert.False(ModelFiles.IsWhole(snapshot));
    }

    [Fact]
    public async Task What_the_cache_holds_is_not_loaded_again()
    {
        string snapshot = await _hub.DownloadAsync();
        int asked = _hub.Server.Requests.Count;

        Assert.Equal(snapshot, await _hub.DownloadAsync()); // whether main has moved on only the hub knows
        Assert.Equal(asked + 1, _hub.Server.Requests.Count);
        Assert.Equal(snapshot, await _hub.DownloadAsync($"{FakeHub.Id}@{FakeHub.First}")); // a commit does not move
        Assert.Equal(snapshot, await ModelFolder.FindOrDownloadAsync(FakeHub.Id, _hub.Options()));
        Assert.Equal(asked + 1, _hub.Server.Requests.Count);
    }

    [Fact]
    public async Task A_branch_that_has_moved_on_shares_the_blobs_that_stayed()
    {
        string first = await _hub.DownloadAsync();
        _hub.Revisions["main"] = FakeHub.Second;
        _hub.Files["config.json"] = "{ \"new\": 1 }"u8.ToArray();

        string second = await _hub.DownloadAsync();

        Assert.Equal(_hub.Snapshot(FakeHub.Second), second);
        Assert.Equal("{}", File.ReadAllText(Path.Combine(first, "config.json")));
        _hub.AssertWhole(second);
        Assert.Equal(FakeHub.Second, File.ReadAllText(Path.Combine(_hub.Repository, "refs", "main")));
        Assert.Equal(2, _hub.RequestsFor("config.json").Length);
        Assert.Single(_hub.RequestsFor("tokenizer.json"));
    }

    [Fact]
    public async Task A_snapshot_that_is_there_in_part_is_completed()
    {
        string snapshot = await _hub.DownloadAsync();
        File.Delete(Path.Combine(snapshot, "model.safetensors"));
        File.Delete(_hub.Blob("model.safetensors"));

        Assert.Equal(snapshot, await ModelFolder.FindOrDownloadAsync(FakeHub.Id, _hub.Options()));
        _hub.AssertWhole(snapshot);
        Assert.Single(_hub.RequestsFor("config.json"));
    }

    [Fact]
    public async Task Progress_tells_bytes_of_all_files_and_ends_with_all_of_them()
    {
        Told told = new();
        await _hub.DownloadAsync(progress: told);

        long all = _hub.Files.Values.Sum(content => content.Length);
        HubProgress[] bytes = [.. told.All.Where(progress => progress.Message is null)];
        Assert.Equal(all, bytes[^1].Bytes);
        Assert.All(bytes, progress => Assert.Equal(all, progress.TotalBytes));
        Assert.Equal(bytes.Select(progress => progress.Bytes).Order(), bytes.Select(progress => progress.Bytes));
        Assert.Equal("model.safetensors", bytes[^1].File);
        Assert.True(bytes[^1].BytesPerSecond > 0);
        Assert.Equal(TimeSpan.Zero, bytes[^1].Remaining);
        Assert.Equal(TimeSpan.FromSeconds(2), new HubProgress("a", 20, 100, 40).Remaining);
        Assert.Null(new HubProgress("a", 20, 0, 40).Remaining);
    }
}
