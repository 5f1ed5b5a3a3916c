using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>The environment variables of huggingface_hub and modelscope, and the options that stand above them.</summary>
public sealed class HubEnvironmentTests : IDisposable
{
    private readonly FakeHub _hub = new();
    private readonly TemporaryFolder _folder = new();

    public void Dispose()
    {
        _hub.Dispose();
        _folder.Dispose();
    }

    [Theory]
    [InlineData(null, null, null, null)]
    [InlineData("hf_env", "hf_old", "hf_file", "hf_env")]
    [InlineData(" hf_env\r\n", null, null, "hf_env")]
    [InlineData(null, "hf_old", "hf_file", "hf_old")]
    [InlineData(null, null, "hf_file\n", "hf_file")]
    [InlineData("", null, " \n", null)]
    public async Task The_token_is_that_of_the_user(string? variable, string? old, string? file, string? expected)
    {
        Set("HF_TOKEN", variable);
        Set("HUGGING_FACE_HUB_TOKEN", old);
        Set("HF_HOME", _folder.Path);
        if (file is not null)
        {
            File.WriteAllText(_folder.File("token"), file);
        }

        await _hub.DownloadAsync();
        Assert.All(_hub.Server.Requests, request => Assert.Equal(expected is null ? null : $"Bearer {expected}", request.Header("Authorization")));
    }

    [Fact]
    public void The_file_of_the_token_may_lie_elsewhere()
    {
        File.WriteAllText(_folder.File("elsewhere"), "hf_elsewhere");
        Set("FOLDER", _folder.Path);
        Set("HF_TOKEN_PATH", "$FOLDER/elsewhere");
        Assert.Equal("hf_elsewhere", HubSite.Of(_hub.Options()).Token);
    }

    [Fact]
    public void A_token_is_sent_unasked_only_where_that_is_allowed()
    {
        Set("HF_TOKEN", "hf_env");
        Set("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        Assert.Null(HubSite.Of(_hub.Options()).Token);
        Assert.Equal("hf_given", HubSite.Of(_hub.Options(options => options.Token = "hf_given")).Token);
        Set("HF_HUB_DISABLE_IMPLICIT_TOKEN", "0");
        Assert.Equal("hf_env", HubSite.Of(_hub.Options()).Token);
        Assert.Null(HubSite.Of(_hub.Options(options => options.Token = "")).Token);
    }

    [Fact]
    public void A_token_that_no_header_can_carry_is_refused_without_being_shown()
    {
        Set("HF_TOKEN", "hf_secret\nX-Evil: 1");
        string message = Assert.Throws<OptionException>(() => HubSite.Of(_hub.Options())).Message;
        Assert.StartsWith("The token in HF_TOKEN is not shown; it must be of printable ASCII", message, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", message);
    }

    [Theory]
    [InlineData(null, null, "https://huggingface.co/")]
    [InlineData("https://hf-mirror.com/", null, "https://hf-mirror.com/")]
    [InlineData("https://hf-mirror.com", "http://localhost:1", "http://localhost:1/")]
    [InlineData("mirror.example", null, "https://mirror.example/")]
    public void The_endpoint_is_the_option_s_else_the_environment_s(string? variable, string? option, string expected)
    {
        Set("HF_ENDPOINT", variable);
        Assert.Equal(expected, HubSite.Of(_hub.Options(options => options.Endpoint = option)).Site.Endpoint.AbsoluteUri);
    }

    [Theory]
    [InlineData("ftp://x")]
    [InlineData("http://user:password@x")]
    [InlineData("https://x/?a=1")]
    [InlineData("://")]
    public void An_endpoint_that_is_none_is_refused(string text)
    {
        Set("HF_ENDPOINT", text);
        Assert.Contains("HF_ENDPOINT", Assert.Throws<OptionException>(() => HubSite.Of(_hub.Options(options => options.Endpoint = null))).Message);
        Assert.Contains("Endpoint", Assert.Throws<OptionException>(() => new HubDownloadOptions { Endpoint = text }.Validate()).Message);
    }

    [Fact]
    public async Task An_endpoint_may_be_a_path_of_a_server()
    {
        _hub.Misbehaviour = request => request.Target.StartsWith("/mirror/", StringComparison.Ordinal)
            ? _hub.Answer(request with { Target = request.Target["/mirror".Length..] })
            : new HubReply(500);
        _hub.AssertWhole(await _hub.DownloadAsync(change: options => options.Endpoint += "/mirror/"));
    }

    [Theory]
    [InlineData("HF_HUB_OFFLINE", "1", true)]
    [InlineData("HF_HUB_OFFLINE", "yes", true)]
    [InlineData("TRANSFORMERS_OFFLINE", "True", true)]
    [InlineData("TRANSFORMERS_OFFLINE", "0", false)]
    [InlineData("HF_HUB_OFFLINE", "", false)]
    public async Task Offline_nothing_is_asked_of_a_network(string variable, string value, bool offline)
    {
        Set(variable, value);
        if (!offline)
        {
            await _hub.DownloadAsync();
            return;
        }

        string message = await _hub.RefusalAsync();
        Assert.Contains($"Test/model-1.5 is not in the Hugging Face cache {_hub.Cache}, and nothing may be downloaded: HF_HUB_OFFLINE", message);
        await Assert.ThrowsAsync<HubException>(() => ModelFolder.FindOrDownloadAsync(FakeHub.Id, _hub.Options()));
        Assert.Empty(_hub.Server.Requests);

        string snapshot = await _hub.DownloadAsync(change: options => options.Offline = false);
        int asked = _hub.Server.Requests.Count;
        Assert.Equal(snapshot, await _hub.DownloadAsync());
        Assert.Equal(snapshot, await _hub.DownloadAsync($"{FakeHub.Id}@{FakeHub.First[..7]}"));
        File.Delete(Path.Combine(snapshot, "tokenizer.json"));
        Assert.Contains("or only a part of it", await _hub.RefusalAsync());
        Assert.Equal(asked, _hub.Server.Requests.Count);
    }

    [Fact]
    public async Task The_option_Offline_stands_above_the_environment()
    {
        Assert.Contains("Offline is true", await _hub.RefusalAsync(change: options => options.Offline = true));
        Assert.Empty(_hub.Server.Requests);
    }

    [Theory]
    [InlineData(null, null, "Hugging Face")]
    [InlineData("1", null, "ModelScope")]
    [InlineData("True", HubSource.HuggingFace, "Hugging Face")]
    [InlineData(null, HubSource.ModelScope, "ModelScope")]
    public void The_source_is_the_option_s_else_the_environment_s(string? variable, HubSource? source, string expected)
    {
        Set("USE_MODELSCOPE_HUB", variable);
        Assert.Equal(expected, HubSite.Of(_hub.Options(options => options.Source = source)).Site.Name);
    }

    [Theory]
    [InlineData(null, null, "https://modelscope.cn/")]
    [InlineData(null, "www.modelscope.ai", "https://www.modelscope.ai/")]
    [InlineData("https://a.b", "www.modelscope.ai", "https://a.b/")]
    public void ModelScope_has_variables_of_its_own(string? endpoint, string? domain, string expected)
    {
        Set("MODELSCOPE_ENDPOINT", endpoint);
        Set("MODELSCOPE_DOMAIN", domain);
        Set("MODELSCOPE_API_TOKEN", "ms");
        Set("HF_TOKEN", "hf");
        (HubSite site, string? token) = HubSite.Of(_hub.Options(options => (options.Source, options.Endpoint) = (HubSource.ModelScope, null)));
        Assert.Equal((expected, "ms"), (site.Endpoint.AbsoluteUri, token));
    }

    [Fact]
    public void The_cache_is_the_option_s_else_the_environment_s()
    {
        Set("HF_HUB_CACHE", _folder.Path);
        Assert.Equal(_folder.Path, _hub.Options(options => options.CacheFolder = null).Cache);
        Assert.Equal(_hub.Cache, _hub.Options().Cache);
    }

    [Fact]
    public async Task Options_that_make_no_sense_are_refused()
    {
        (Action<HubDownloadOptions> Change, string Told)[] cases =
        [
            (options => options.Connections = 0, "Connections is 0; it must be 1 to 64"),
            (options => options.Connections = 65, "Connections is 65"),
            (options => options.Retries = -1, "Retries is -1"),
            (options => options.Timeout = TimeSpan.Zero, "Timeout is 00:00:00"),
            (options => options.CacheFolder = " ", "CacheFolder is empty"),
            (options => options.Source = (HubSource)7, "Source is 7; it must be HuggingFace or ModelScope"),
            (options => options.Token = "a b", "Token is not shown"),
        ];
        foreach ((Action<HubDownloadOptions> change, string told) in cases)
        {
            Assert.Contains(told, (await Assert.ThrowsAsync<OptionException>(() => _hub.DownloadAsync(change: change))).Message);
        }

        foreach (string model in new[] { "model", "", "a/b/c", "a/b@", "../b" })
        {
            Assert.Contains("is no hub id", (await Assert.ThrowsAsync<OptionException>(() => _hub.DownloadAsync(model))).Message);
        }

        Assert.Empty(_hub.Server.Requests);
    }

    [Fact]
    public async Task What_is_a_folder_is_not_looked_for_on_a_hub()
    {
        Assert.Equal(_folder.Path, await ModelFolder.FindOrDownloadAsync(_folder.Path, _hub.Options()));
        await Assert.ThrowsAsync<CheckpointException>(() => ModelFolder.FindOrDownloadAsync("./no-such-folder", _hub.Options()));
        Assert.Empty(_hub.Server.Requests);
    }

    private void Set(string name, string? value)
    {
        if (value is not null)
        {
            _hub.Variables[name] = value;
        }
    }
}
