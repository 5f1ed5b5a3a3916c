using System.Net;
using System.Text;
using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Servers that refuse, break off, lie or send something else: what is tried again, what is told, and that nothing wrong comes into the
/// cache.</summary>
public sealed class HubFailureTests : IDisposable
{
    private readonly FakeHub _hub = new();

    public void Dispose() => _hub.Dispose();

    [Fact]
    public async Task A_model_that_is_not_there_is_told_by_its_name()
    {
        HubException error = await Assert.ThrowsAsync<HubException>(() => _hub.DownloadAsync("Test/unknown"));

        Assert.Equal(HttpStatusCode.Unauthorized, error.StatusCode); // so the hub answers to who is not signed in
        Assert.StartsWith("There is no model Test/unknown on Hugging Face (127.0.0.1)", error.Message, StringComparison.Ordinal);
        Assert.Contains("set HF_TOKEN", error.Message);
        Assert.False(Directory.Exists(_hub.Cache));
        Assert.Contains("Your token has no right to it", await _hub.RefusalAsync("Test/unknown", options => options.Token = "hf_x"));
        _hub.Misbehaviour = _ => new HubReply(404);
        Assert.StartsWith("There is no model Test/model-1.5 on Hugging Face", await _hub.RefusalAsync(), StringComparison.Ordinal);
        Assert.Contains("or it has no revision 'v9'", await _hub.RefusalAsync($"{FakeHub.Id}@v9"));
    }

    [Fact]
    public async Task A_revision_that_is_not_there_is_told() =>
        Assert.StartsWith("Test/model-1.5 has no revision 'v2' on Hugging Face.", await _hub.RefusalAsync($"{FakeHub.Id}@v2"), StringComparison.Ordinal);

    [Fact]
    public async Task A_file_that_is_not_there_is_told()
    {
        _hub.Misbehaviour = request => request.Name == "model.safetensors" ? FakeHub.Error(404, "EntryNotFound") : null;
        Assert.StartsWith("Test/model-1.5 has no file model.safetensors", await _hub.RefusalAsync(), StringComparison.Ordinal);
        Assert.False(Directory.Exists(_hub.Snapshot())); // no snapshot that is half there
    }

    [Theory]
    [InlineData(401)]
    [InlineData(403)]
    public async Task A_gated_model_says_where_its_licence_is_accepted(int status)
    {
        _hub.Misbehaviour = request => request.Name == "config.json"
            ? FakeHub.Error(status, "GatedRepo", "Access to model Test/model-1.5 is restricted.\u0007") : null;
        string message = await _hub.RefusalAsync();

        Assert.Contains($"Test/model-1.5 is gated: open {_hub.Server.Address}/Test/model-1.5, accept its licence with your account, and set HF_TOKEN", message);
        Assert.EndsWith("It says: Access to model Test/model-1.5 is restricted. ", message, StringComparison.Ordinal); // without the bell
        Assert.Single(_hub.RequestsFor("config.json"));
        Assert.Contains("whose token HF_TOKEN must be", await _hub.RefusalAsync(change: options => options.Token = "hf_x"));
    }

    [Theory]
    [InlineData(500)]
    [InlineData(503)]
    [InlineData(408)]
    public async Task A_server_that_fails_for_a_while_is_asked_again(int status)
    {
        int failures = 0;
        _hub.Misbehaviour = request => request.Name == "config.json" && ++failures <= 3 ? new HubReply(status) : null;
        Told told = new();

        _hub.AssertWhole(await _hub.DownloadAsync(progress: told));

        Assert.Equal([1, 2, 4], _hub.Pauses.Select(pause => pause.TotalSeconds));
        Assert.Contains($"answers {status} for Test/model-1.5, config.json. Attempt 2 of 6 in 1 s.", told.Messages);
    }

    [Fact]
    public async Task A_server_that_fails_for_good_is_given_up()
    {
        _hub.Misbehaviour = _ => new HubReply(502);
        HubException error = await Assert.ThrowsAsync<HubException>(() => _hub.DownloadAsync(change: options => options.Retries = 2));

        Assert.Equal(HttpStatusCode.BadGateway, error.StatusCode);
        Assert.Contains("answers 502 for Test/model-1.5", error.Message);
        Assert.Equal(3, _hub.Server.Requests.Count);
        Assert.Equal(2, _hub.Pauses.Count);
    }

    [Fact]
    public async Task A_busy_server_says_how_long_to_wait()
    {
        Queue<string> waits = new(["7", DateTimeOffset.UtcNow.AddSeconds(100).ToString("R"), DateTimeOffset.UtcNow.AddSeconds(-100).ToString("R")]);
        _hub.Misbehaviour = _ => waits.TryDequeue(out string? wait) ? new HubReply(429) { Headers = { ["Retry-After"] = wait } } : null;

        _hub.AssertWhole(await _hub.DownloadAsync());

        Assert.Equal(TimeSpan.FromSeconds(7), _hub.Pauses[0]);
        Assert.InRange(_hub.Pauses[1].TotalSeconds, 50, 100);
        Assert.Equal(TimeSpan.Zero, _hub.Pauses[2]);
    }

    [Fact]
    public async Task A_server_that_asks_to_wait_for_hours_is_not_waited_for()
    {
        _hub.Misbehaviour = _ => new HubReply(429) { Headers = { ["Retry-After"] = "7200" } };
        HubException error = await Assert.ThrowsAsync<HubException>(() => _hub.DownloadAsync());

        Assert.Equal(HttpStatusCode.TooManyRequests, error.StatusCode);
        Assert.Contains("asks to wait 120 minutes", error.Message);
        Assert.Empty(_hub.Pauses);
    }

    [Fact]
    public async Task A_port_that_nobody_hears_is_told() => Assert.StartsWith("The connection to 127.0.0.1 failed:", await _hub.RefusalAsync(change: options =>
        (options.Endpoint, options.Retries) = ("http://127.0.0.1:1", 0)), StringComparison.Ordinal);

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task A_connection_that_is_cut_again_and_again_gets_through(int connections)
    {
        // Every answer for the weights breaks off after 40,000 bytes; each attempt brings some, so that they do not count as failures in a row.
        _hub.Misbehaviour = request =>
        {
            HubReply whole = _hub.Answer(request);
            return request.Name == "model.safetensors" && whole.Body.Length > 40_000
                ? new HubReply(whole.Status, whole.Body) { Headers = whole.Headers, CutAfter = 40_000 }
                : null;
        };

        _hub.AssertWhole(await _hub.DownloadAsync(change: options => (options.Connections, options.Retries) = (connections, 1)));

        Assert.True(_hub.RequestsFor("model.safetensors").Length >= 8);
        Assert.Equal(_hub.Files["model.safetensors"].Length,
            _hub.RequestsFor("model.safetensors").Sum(request => request.Range is var (from, to) ? Math.Min(40_000, (to ?? 299_999) - from + 1) : 40_000));
    }

    [Fact]
    public async Task A_connection_that_brings_nothing_is_given_up()
    {
        _hub.Misbehaviour = request => request.Name == "model.safetensors" ? new HubReply(200, new byte[300_000]) { CutAfter = 0 } : null;

        string message = await _hub.RefusalAsync(change: options => (options.Connections, options.Retries) = (1, 2));

        Assert.StartsWith("The connection to 127.0.0.1 failed:", message, StringComparison.Ordinal);
        Assert.Contains("It was tried 3 times in a row.", message);
        Assert.Equal(3, _hub.RequestsFor("model.safetensors").Length);
    }

    [Theory]
    [InlineData(200, 12L, null, "status 200 with 12 bytes")]
    [InlineData(200, 300_001L, null, "status 200 with 300001 bytes")]
    [InlineData(206, null, "bytes 0-11/12", "Content-Range is 'bytes 0-11/12'")]
    [InlineData(206, null, null, "Content-Range is ''")]
    [InlineData(203, null, null, "status 203")]
    public async Task An_answer_that_is_not_the_file_is_refused_before_it_comes(int status, long? length, string? range, string told)
    {
        _hub.Misbehaviour = request => request.Name != "model.safetensors" ? null : new HubReply(status, "<!DOCTYPE html>")
        {
            ClaimedLength = length,
            Headers = range is null ? [] : new Dictionary<string, string> { ["Content-Range"] = range },
        };
        string message = await _hub.RefusalAsync(change: options => options.Connections = 1);

        Assert.StartsWith("127.0.0.1 sends something else than model.safetensors, which has 300000 bytes:", message, StringComparison.Ordinal);
        Assert.Contains(told, message);
        Assert.Single(_hub.RequestsFor("model.safetensors"));
    }

    [Fact]
    public async Task A_packed_answer_is_refused()
    {
        _hub.Misbehaviour = request => request.Name != "config.json" ? null : new HubReply(200, "{}") { Headers = { ["Content-Encoding"] = "gzip" } };
        Assert.Contains("it is packed with gzip", await _hub.RefusalAsync());
        Assert.Equal("identity", _hub.RequestsFor("config.json")[0].Header("Accept-Encoding"));
    }

    [Fact]
    public async Task More_bytes_than_the_file_has_are_refused()
    {
        _hub.Misbehaviour = request => request.Name == "config.json" ? new HubReply(200, new byte[100_000]) { ClaimedLength = -1 } : null;
        Assert.Contains("sends more than the 2 bytes that config.json has", await _hub.RefusalAsync());
        Assert.False(File.Exists(_hub.Blob("config.json")));
    }

    [Theory]
    [InlineData("model.safetensors")] // SHA-256
    [InlineData("tokenizer.json")] // git's hash
    public async Task Content_that_is_damaged_once_is_loaded_again(string name)
    {
        bool damaged = false;
        _hub.Misbehaviour = request =>
        {
            if (request.Name != name || damaged)
            {
                return null;
            }

            damaged = true;
            HubReply right = _hub.Answer(request);
            byte[] wrong = [.. right.Body];
            wrong[^1] ^= 1;
            return new HubReply(right.Status, wrong) { Headers = right.Headers };
        };
        Told told = new();

        _hub.AssertWhole(await _hub.DownloadAsync(progress: told));

        Assert.True(damaged);
        Assert.Contains($"{name} is damaged: it should have the hash {_hub.Etag(name)}", told.Messages);
    }

    [Fact]
    public async Task Content_that_is_always_damaged_never_comes_into_the_cache()
    {
        _hub.Misbehaviour = request => request.Name == "tokenizer.json"
            ? FakeHub.Content(request, new byte[_hub.Files["tokenizer.json"].Length], "x") : null;

        Assert.Contains("It came twice, and was thrown away.", await _hub.RefusalAsync());

        Assert.Equal(2, _hub.RequestsFor("tokenizer.json").Length);
        Assert.False(File.Exists(_hub.Blob("tokenizer.json")));
        Assert.False(Directory.Exists(_hub.Snapshot()));
        _hub.Misbehaviour = null;
        _hub.AssertWhole(await _hub.DownloadAsync());
    }

    [Theory]
    [InlineData("../../../../evil.json")]
    [InlineData("a/../../config.json")]
    [InlineData("/etc/config.json")]
    [InlineData("C:/config.json")]
    [InlineData("a\\..\\config.json")]
    [InlineData("config.json\0")]
    [InlineData("a//b")]
    [InlineData("./config.json")]
    [InlineData("")]
    public async Task Names_that_lead_out_of_the_folder_are_refused(string name)
    {
        _hub.Files[name] = [1];
        string message = await _hub.RefusalAsync();
        Assert.Contains("which is no plain path. Nothing was downloaded.", message);
        Assert.DoesNotContain('\0', message);
        Assert.Single(_hub.Server.Requests);
        Assert.False(Directory.Exists(_hub.Cache));
    }

    [Theory]
    [InlineData("../model.safetensors")]
    [InlineData("config.json")]
    [InlineData("missing.safetensors")]
    [InlineData("a/b.safetensors")]
    public async Task An_index_of_weights_names_only_weights_beside_it(string shard)
    {
        _hub.Files["a/b.safetensors"] = [1];
        _hub.Files["model.safetensors.index.json"] = Encoding.UTF8.GetBytes($$$"""{ "weight_map": { "a": "{{{shard}}}" } }""");
        _hub.Files.Remove("model.safetensors");
        Assert.Contains($"names '{shard}', which is no .safetensors file beside it", await _hub.RefusalAsync());
    }

    [Theory]
    [InlineData("{", "something else than the list")]
    [InlineData("<html>Sign in</html>", "does a proxy want you to sign in")]
    [InlineData("[]", "there is no commit (sha)")]
    [InlineData("{\"sha\":\"../../x\",\"siblings\":[]}", "there is no commit (sha)")]
    [InlineData("{\"sha\":\"1111111111111111111111111111111111111111\",\"siblings\":{}}", "no list of files")]
    [InlineData("{\"sha\":\"1111111111111111111111111111111111111111\",\"siblings\":[1,null]}", "no plain path")]
    [InlineData("{\"sha\":\"1111111111111111111111111111111111111111\",\"siblings\":[]}", "it has no model.safetensors")]
    public async Task A_list_that_is_none_is_told(string json, string told)
    {
        _hub.Misbehaviour = _ => new HubReply(200, json);
        Assert.Contains(told, await _hub.RefusalAsync());
    }

    [Fact]
    public async Task A_list_without_end_is_not_read_to_its_end()
    {
        _hub.Misbehaviour = _ => new HubReply(200) { ClaimedLength = 1L << 40 };
        Assert.Contains("no model has so many", await _hub.RefusalAsync());
        byte[] spaces = new byte[65 << 20];
        Array.Fill(spaces, (byte)' ');
        _hub.Misbehaviour = _ => new HubReply(200, spaces) { ClaimedLength = -1 };
        Assert.Contains("no model has so many", await _hub.RefusalAsync());
    }

    [Fact]
    public async Task A_list_of_far_too_many_files_is_refused()
    {
        StringBuilder json = new($"{{\"sha\":\"{FakeHub.First}\",\"siblings\":[");
        json.AppendJoin(',', Enumerable.Range(0, 100_001).Select(i => $"{{\"rfilename\":\"{i}\"}}")).Append("]}");
        _hub.Misbehaviour = _ => new HubReply(200, json.ToString());
        Assert.Contains("more than 100000 files", await _hub.RefusalAsync());
    }

    [Fact]
    public async Task A_model_without_safetensors_says_what_it_has()
    {
        _hub.Files.Remove("model.safetensors");
        _hub.Files["pytorch_model.bin"] = [1];
        _hub.Files["model.gguf"] = [1];
        Assert.Contains("has no weights in safetensors, but only .bin, .gguf files", await _hub.RefusalAsync());
        _hub.Files["model.safetensors"] = [1];
        _hub.Files.Remove("config.json");
        Assert.Contains("it has no config.json", await _hub.RefusalAsync());
    }

    [Theory]
    [InlineData("\"{0}\"", "X-Linked-Etag")]
    [InlineData("W/\"{0}\"", "ETag")]
    public async Task A_mirror_that_lists_names_alone_is_asked_for_each_file(string form, string header)
    {
        string names = string.Join(',', _hub.Files.Keys.Select(name => $"{{\"rfilename\":\"{name}\"}}"));
        _hub.Misbehaviour = request => request.Target.StartsWith("/api/", StringComparison.Ordinal)
            ? new HubReply(200, $"{{\"sha\":\"{FakeHub.First}\",\"siblings\":[{names}]}}")
            : request.Method == "HEAD" ? Head(request) : null;

        _hub.AssertWhole(await _hub.DownloadAsync());
        Assert.True(File.Exists(_hub.Blob("config.json")));

        HubReply Head(HubRequest request)
        {
            string etag = form.Replace("{0}", _hub.Etag(request.Name), StringComparison.Ordinal);
            int size = _hub.Files[request.Name].Length;
            return header == "ETag" ? new HubReply(200) { ClaimedLength = size, Headers = { ["ETag"] = etag } } : new HubReply(302)
            {
                Headers = { ["Location"] = "http://localhost:1/blob", [header] = etag, ["X-Linked-Size"] = $"{size}", ["ETag"] = "\"other\"" },
            };
        }
    }

    [Theory]
    [InlineData("\"../../x\"")]
    [InlineData("\"\"")]
    [InlineData("\".hidden\"")]
    [InlineData(null)]
    public async Task An_ETag_that_cannot_name_a_file_is_refused(string? etag)
    {
        string names = string.Join(',', _hub.Files.Keys.Select(name => $"{{\"rfilename\":\"{name}\"}}"));
        _hub.Misbehaviour = request => request.Method == "HEAD"
            ? new HubReply(200) { ClaimedLength = 2, Headers = etag is null ? [] : new Dictionary<string, string> { ["ETag"] = etag } }
            : new HubReply(200, $"{{\"sha\":\"{FakeHub.First}\",\"siblings\":[{names}]}}");
        Assert.Contains("tells neither in its list nor in the headers", await _hub.RefusalAsync());
    }
}
