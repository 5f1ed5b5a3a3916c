using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Large files lie elsewhere than the hub: redirects are followed, the token is not shown there, and nothing leads around encryption.</summary>
public sealed class HubRedirectTests : IDisposable
{
    private readonly FakeHub _hub = new();
    private readonly HubServer _storage;
    private int _expired;

    public HubRedirectTests() => _storage = new HubServer(request =>
        _expired-- > 0 ? new HubReply(403, "<Error>expired</Error>") : FakeHub.Content(request, _hub.Files["model.safetensors"], "storage"));

    public void Dispose()
    {
        _storage.Dispose();
        _hub.Dispose();
    }

    [Fact]
    public async Task The_token_does_not_follow_to_another_host()
    {
        Redirect($"http://localhost:{_storage.Port}/blob?signature=1");
        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Token = "hf_secret"));

        Assert.All(_hub.Server.Requests, request => Assert.Equal("Bearer hf_secret", request.Header("Authorization")));
        Assert.NotEmpty(_storage.Requests);
        Assert.All(_storage.Requests, request => Assert.DoesNotContain("hf_secret", string.Join('\n', request.Headers.Values)));
        Assert.All(_hub.Server.Requests.Concat(_storage.Requests), request =>
            Assert.StartsWith("MLNetLora/", request.Header("User-Agent"), StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_token_does_not_follow_to_another_port()
    {
        Redirect($"http://127.0.0.1:{_storage.Port}/blob");
        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Token = "hf_secret"));
        Assert.All(_storage.Requests, request => Assert.Null(request.Header("Authorization")));
    }

    [Fact]
    public async Task The_token_follows_where_the_hub_itself_is_meant()
    {
        // As for a model that has been renamed.
        _hub.Misbehaviour = request => request.Target.Contains("/Old/name/", StringComparison.Ordinal)
            ? new HubReply(307) { Headers = { ["Location"] = request.Target.Replace("/Old/name/", $"/{FakeHub.Id}/", StringComparison.Ordinal) } }
            : null;
        string snapshot = await _hub.DownloadAsync("Old/name", options => options.Token = "hf_secret");

        Assert.Equal(_hub.Files["config.json"], File.ReadAllBytes(Path.Combine(snapshot, "config.json")));
        Assert.Contains("models--Old--name", snapshot);
        Assert.All(_hub.Server.Requests, request => Assert.Equal("Bearer hf_secret", request.Header("Authorization")));
    }

    [Fact]
    public async Task Where_the_hub_leads_to_is_asked_once_for_all_parts()
    {
        Redirect($"http://127.0.0.1:{_storage.Port}/blob");
        _hub.AssertWhole(await _hub.DownloadAsync());
        Assert.Single(_hub.RequestsFor("model.safetensors"));
        Assert.Equal(5, _storage.Requests.Count);
    }

    [Fact]
    public async Task An_address_that_expires_on_the_way_is_asked_for_again()
    {
        (int asked, int served) = (0, 0);
        using HubServer storage = new(request => Interlocked.Increment(ref served) <= 2
            ? FakeHub.Content(request, _hub.Files["model.safetensors"], "storage")
            : new HubReply(403, "<Error>expired</Error>"));
        _hub.Misbehaviour = request => request.Name == "model.safetensors" && Interlocked.Increment(ref asked) == 1
            ? new HubReply(302) { Headers = { ["Location"] = $"http://localhost:{storage.Port}/blob" } }
            : null;

        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Connections = 2));

        Assert.True(served > 2);
        Assert.True(asked > 1);
    }

    [Fact]
    public async Task A_host_that_refuses_is_told_by_its_name()
    {
        _expired = int.MaxValue;
        Redirect($"http://localhost:{_storage.Port}/blob");
        string message = await _hub.RefusalAsync();
        Assert.Contains("Hugging Face (localhost) answers 403", message);
        Assert.Contains("127.0.0.1 leads there; is that host blocked here?", message);
    }

    [Fact]
    public async Task Redirects_without_end_are_told()
    {
        _hub.Misbehaviour = request => request.Name == "config.json" ? new HubReply(302) { Headers = { ["Location"] = request.Target } } : null;
        Assert.Contains("redirects more than 10 times when asked for config.json", await _hub.RefusalAsync());
    }

    [Theory]
    [InlineData("")]
    [InlineData("file:///etc/passwd")]
    [InlineData("ftp://127.0.0.1/x")]
    public async Task A_redirect_to_something_else_than_the_web_is_refused(string location)
    {
        _hub.Misbehaviour = request => request.Name != "config.json" ? null : new HubReply(302) { Headers = { ["Location"] = location } };
        Assert.Contains("which is no address of the web", await _hub.RefusalAsync());
    }

    [Theory]
    [InlineData("https://a.b/c", "http://a.b/c")]
    [InlineData("https://a.b/c", "http://d.e/f")]
    public void A_redirect_from_https_to_http_is_refused(string from, string to) =>
        Assert.Contains("redirects from https to http://", Assert.Throws<HubException>(() => HubClient.Follow(new Uri(from), to)).Message);

    [Theory]
    [InlineData("http://a.b/c/d", "e", "http://a.b/c/e")]
    [InlineData("http://a.b/c", "https://d.e/", "https://d.e/")]
    [InlineData("https://a.b/c", "//d.e/f", "https://d.e/f")]
    public void Other_redirects_are_followed(string from, string to, string expected) =>
        Assert.Equal(expected, HubClient.Follow(new Uri(from), to).AbsoluteUri);

    [Fact]
    public async Task A_server_that_does_not_speak_TLS_is_told()
    {
        string message = await _hub.RefusalAsync(change: options => (options.Endpoint, options.Retries) = ($"https://127.0.0.1:{_storage.Port}", 0));
        Assert.Matches("(There is no secure connection to 127.0.0.1:|The connection to 127.0.0.1 failed:)", message);
    }

    private void Redirect(string to) => _hub.Misbehaviour = request =>
        request.Name == "model.safetensors" ? new HubReply(302) { Headers = { ["Location"] = to } } : null;
}
