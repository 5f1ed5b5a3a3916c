using System.Security.Cryptography;
using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>ModelScope as the source: its own addresses, errors in answers of status 200, SHA-256 for every file, and the same cache.</summary>
public sealed class ModelScopeTests : IDisposable
{
    private const string List = $"/api/v1/models/{FakeHub.Id}/repo/files";
    private const string Commit = "3333333333333333333333333333333333333333";
    private const string Older = "4444444444444444444444444444444444444444";

    private readonly FakeHub _hub = new();
    private object? _latest = new { Id = "", ShortId = Commit[..8] };

    public ModelScopeTests() => _hub.Misbehaviour = Answer;

    public void Dispose() => _hub.Dispose();

    [Fact]
    public async Task A_model_comes_into_the_Hugging_Face_cache_as_its_branch_master()
    {
        string snapshot = await DownloadAsync();

        Assert.Equal(_hub.Snapshot(Commit), snapshot);
        _hub.AssertWhole(snapshot);
        Assert.Equal(Commit, File.ReadAllText(Path.Combine(_hub.Repository, "refs", "master")));
        Assert.False(File.Exists(Path.Combine(_hub.Repository, "refs", "main"))); // that is Hugging Face's
        Assert.True(File.Exists(Path.Combine(_hub.Repository, "blobs", Sha256("config.json"))));
        Assert.Contains(_hub.Server.Requests, request => request.Target == $"{List}?Revision=master&Recursive=true");
        Assert.All(_hub.RequestsFor("repo"), request => Assert.Contains($"Revision={Commit}&FilePath=", request.Target));
    }

    [Fact]
    public async Task What_has_come_from_ModelScope_is_found_whatever_the_source_is()
    {
        string snapshot = await DownloadAsync();
        int asked = _hub.Server.Requests.Count;
        Assert.Equal(snapshot, await ModelFolder.FindOrDownloadAsync(FakeHub.Id, _hub.Options()));
        Assert.Equal(snapshot, await ModelFolder.FindOrDownloadAsync($"{FakeHub.Id}@master", _hub.Options()));
        Assert.Equal(asked, _hub.Server.Requests.Count);
    }

    [Fact]
    public async Task The_token_goes_as_header_and_as_cookie()
    {
        await DownloadAsync(change: options => options.Token = "ms_x");
        Assert.All(_hub.Server.Requests, request =>
        {
            Assert.Equal("Bearer ms_x", request.Header("Authorization"));
            Assert.Equal("m_session_id=ms_x", request.Header("Cookie"));
        });
    }

    [Fact]
    public async Task The_cookie_does_not_follow_to_another_host()
    {
        using HubServer storage = new(request => FakeHub.Content(request, _hub.Files["model.safetensors"], "x"));
        _hub.Misbehaviour = request => request.Target.EndsWith("FilePath=model.safetensors", StringComparison.Ordinal)
            ? new HubReply(302) { Headers = { ["Location"] = $"http://localhost:{storage.Port}/x" } }
            : Answer(request);
        _hub.AssertWhole(await DownloadAsync(change: options => options.Token = "ms_x"));
        Assert.All(storage.Requests, request => Assert.DoesNotContain("ms_x", string.Join('\n', request.Headers.Values)));
    }

    [Fact]
    public async Task Where_no_commit_is_told_the_files_stand_for_it()
    {
        _latest = null;
        string first = await DownloadAsync();
        _hub.AssertWhole(first);
        Assert.True(HubId.IsCommit(Path.GetFileName(first)));
        Assert.Equal(first, await DownloadAsync());
        _hub.Files["config.json"] = "{ }"u8.ToArray();
        Assert.NotEqual(first, await DownloadAsync());
    }

    [Fact]
    public async Task A_commit_and_a_tag_may_be_asked_for()
    {
        Assert.Equal(_hub.Snapshot(Older), await DownloadAsync($"{FakeHub.Id}@{Older}"));
        Assert.Equal(_hub.Snapshot(Commit), await DownloadAsync($"{FakeHub.Id}@v1.0"));
        Assert.Equal(Commit, File.ReadAllText(Path.Combine(_hub.Repository, "refs", "v1.0")));
    }

    [Fact]
    public async Task Errors_of_status_200_are_told()
    {
        _hub.Misbehaviour = _ => new HubReply(200, """{ "Code": 10010205001, "Data": null, "Message": "record not found", "Success": false }""");
        Assert.Contains("ModelScope has no model Test/model-1.5, or it is private (it says 'record not found')", await RefusalAsync());
        _hub.Misbehaviour = _ => new HubReply(200, """{ "Code": 200, "Data": { "Files": null }, "Success": true }""");
        Assert.Contains("Test/model-1.5 has no revision 'v9' on ModelScope; its main branch is master.", await RefusalAsync($"{FakeHub.Id}@v9"));
        _hub.Misbehaviour = _ => new HubReply(200, "[]");
        Assert.Contains("does not answer as ModelScope does", await RefusalAsync());
        _hub.Misbehaviour = _ => new HubReply(404, """{ "Code": 404 }""");
        Assert.Contains("There is no model Test/model-1.5 on ModelScope", await RefusalAsync());
        _hub.Misbehaviour = _ => new HubReply(403);
        Assert.Contains("MODELSCOPE_API_TOKEN", await RefusalAsync());
    }

    [Fact]
    public async Task Damaged_content_of_small_files_shows_too()
    {
        _hub.Misbehaviour = request => request.Target.EndsWith("FilePath=config.json", StringComparison.Ordinal) ? new HubReply(200, "[]") : Answer(request);
        Assert.Contains("config.json is damaged", await RefusalAsync());
    }

    private Task<string> DownloadAsync(string model = FakeHub.Id, Action<HubDownloadOptions>? change = null) => _hub.DownloadAsync(model, options =>
    {
        options.Source = HubSource.ModelScope;
        change?.Invoke(options);
    });

    private Task<string> RefusalAsync(string model = FakeHub.Id) => _hub.RefusalAsync(model, options => options.Source = HubSource.ModelScope);

    private string Sha256(string name) => Convert.ToHexStringLower(SHA256.HashData(_hub.Files[name]));

    private HubReply? Answer(HubRequest request)
    {
        if (request.Target.StartsWith(List, StringComparison.Ordinal))
        {
            return new HubReply(200, JsonSerializer.Serialize(new
            {
                Code = 200,
                Success = true,
                Data = new
                {
                    LatestCommitter = _latest,
                    Files = _hub.Files.Select((file, i) => (object)new
                    {
                        Path = file.Key,
                        Size = file.Value.Length,
                        Sha256 = Sha256(file.Key),
                        Type = "blob",
                        Revision = i == 0 ? Older : Commit,
                    }).Append(new { Path = "figures", Size = 0, Sha256 = "", Type = "tree", Revision = Older }),
                },
            }));
        }

        string file = Uri.UnescapeDataString(request.Target.Split("FilePath=")[^1]);
        return _hub.Files.TryGetValue(file, out byte[]? content) ? FakeHub.Content(request, content, "x") : null;
    }
}
