using System.Net;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>Loading and unloading over HTTP.</summary>
public sealed class AdapterEndpointTests : IAsyncLifetime, IDisposable
{
    private const string Key = "admin";

    private readonly TemporaryFolder _folder = new();
    private readonly string _root;
    private TestService _service = null!;

    public AdapterEndpointTests() => _root = Directory.CreateDirectory(_folder.File("root")).FullName;

    public async Task InitializeAsync()
    {
        string fixedOne = TestAdapters.Write(_folder.File("fixed"), seed: 9);
        _service = await NanoService.StartAsync(
            model =>
            {
                model.AdapterRoot = _root;
                model.Adapters["fixed"] = fixedOne;
            },
            options => options.AdminKeys.Add(Key));
    }

    public async Task DisposeAsync() => await _service.DisposeAsync();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task An_adapter_is_loaded_and_unloaded_as_with_vllm()
    {
        string path = TestAdapters.Write(Path.Combine(_root, "v1"));
        Assert.Equal("Success: LoRA adapter 'v1' added successfully.", await TextAsync(await LoadAsync("v1", path)));
        Assert.Equal(NanoService.Expected(path), NanoService.Answer(_service, "v1"));
        Assert.Equal("Success: LoRA adapter 'v2' added successfully.", await TextAsync(await LoadAsync("v2", "v1")));
        Assert.Equal(["fixed", "support", "v1", "v2"], NanoService.Names(_service));
        Assert.Equal("Success: LoRA adapter 'v1' removed successfully.", await TextAsync(await UnloadAsync("v1")));
        Assert.Equal(["fixed", "support", "v2"], NanoService.Names(_service));
    }

    [Fact]
    public async Task A_name_that_is_taken_needs_load_inplace()
    {
        TestAdapters.Write(Path.Combine(_root, "one"), seed: 1);
        string two = TestAdapters.Write(Path.Combine(_root, "two"), seed: 2);
        await TextAsync(await LoadAsync("v1", "one"));
        Assert.Contains("load_inplace", await RefusedAsync(HttpStatusCode.BadRequest, await LoadAsync("v1", "two")), StringComparison.Ordinal);
        Assert.NotEqual(NanoService.Expected(two), NanoService.Answer(_service, "v1"));
        await TextAsync(await _service.PostAsync("/v1/load_lora_adapter", new { lora_name = "v1", lora_path = "two", load_inplace = true }, Key));
        Assert.Equal(NanoService.Expected(two), NanoService.Answer(_service, "v1"));
    }

    [Fact]
    public async Task Names_of_the_base_and_of_the_options_stay_theirs()
    {
        TestAdapters.Write(Path.Combine(_root, "v1"));
        foreach (string name in (string[])["support", "fixed", "not a name", ".."])
        {
            await RefusedAsync(HttpStatusCode.BadRequest, await _service.PostAsync(
                "/v1/load_lora_adapter", new { lora_name = name, lora_path = "v1", load_inplace = true }, Key));
        }

        await RefusedAsync(HttpStatusCode.BadRequest, await UnloadAsync("fixed"));
        await RefusedAsync(HttpStatusCode.NotFound, await UnloadAsync("support"));
        await RefusedAsync(HttpStatusCode.NotFound, await UnloadAsync("v1"));
        Assert.Equal(["fixed", "support"], NanoService.Names(_service));
    }

    [Theory]
    [InlineData("../outside")]
    [InlineData("v1/../../outside")]
    [InlineData("/etc")]
    [InlineData("..")]
    [InlineData(".")]
    [InlineData("../root-beside/v1")]
    [InlineData("v1\0")]
    public async Task A_path_that_leads_out_of_the_root_is_refused(string path)
    {
        TestAdapters.Write(_folder.File("outside"));
        TestAdapters.Write(Path.Combine(_folder.File("root-beside"), "v1"));
        string message = await RefusedAsync(HttpStatusCode.BadRequest, await LoadAsync("v1", path));
        Assert.Contains("inside", message, StringComparison.Ordinal);
        Assert.Equal(["fixed", "support"], NanoService.Names(_service));
    }

    [LinuxFact]
    public async Task A_link_that_leads_out_of_the_root_is_refused()
    {
        string outside = TestAdapters.Write(_folder.File("outside"));
        Directory.CreateSymbolicLink(Path.Combine(_root, "link"), outside);
        Directory.CreateSymbolicLink(Path.Combine(_root, "up"), _folder.Path);
        File.CreateSymbolicLink(Path.Combine(_root, "loop"), Path.Combine(_root, "loop"));
        TestAdapters.Write(Path.Combine(_root, "files"));
        File.Delete(Path.Combine(_root, "files", "adapter_config.json"));
        File.CreateSymbolicLink(Path.Combine(_root, "files", "adapter_config.json"), Path.Combine(outside, "adapter_config.json"));
        foreach (string path in (string[])["link", "up/outside", "up/nothing", "link/nothing", "files"])
        {
            Assert.Contains("inside", await RefusedAsync(HttpStatusCode.BadRequest, await LoadAsync("v1", path)), StringComparison.Ordinal);
        }

        await RefusedAsync(HttpStatusCode.NotFound, await LoadAsync("v1", "loop"));
        Assert.Equal(["fixed", "support"], NanoService.Names(_service));
    }

    [LinuxFact]
    public async Task Links_inside_of_the_root_are_followed_and_the_root_may_be_one()
    {
        TestAdapters.Write(Path.Combine(_root, "2026-11-29"));
        Directory.CreateSymbolicLink(Path.Combine(_root, "newest"), "2026-11-29");
        Assert.Null(AdapterFolder.Inside(_root, "newest", out string folder));
        Assert.Equal(Path.Combine(_root, "2026-11-29"), folder);
        Directory.CreateSymbolicLink(_folder.File("to-root"), _root);
        Assert.Null(AdapterFolder.Inside(_folder.File("to-root"), "newest", out _));
        await TextAsync(await LoadAsync("v1", "newest"));
    }

    [Fact]
    public async Task What_is_no_adapter_is_refused_with_the_reason()
    {
        Directory.CreateDirectory(Path.Combine(_root, "empty"));
        Assert.Contains("adapter_config.json", await RefusedAsync(HttpStatusCode.BadRequest, await LoadAsync("v1", "empty")), StringComparison.Ordinal);
        await RefusedAsync(HttpStatusCode.NotFound, await LoadAsync("v1", "nothing"));
        TestAdapters.Write(Path.Combine(_root, "nan"), change: values => values[0] = float.PositiveInfinity);
        Assert.Contains("infinite", await RefusedAsync(HttpStatusCode.BadRequest, await LoadAsync("v1", "nan")), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"lora_path\":\"v1\"}", "lora_name")]
    [InlineData("{\"lora_name\":\"v1\"}", "lora_path")]
    [InlineData("{\"lora_name\":1,\"lora_path\":\"v1\"}", "lora_name")]
    [InlineData("{\"lora_name\":\"v1\",\"lora_path\":\"v1\",\"lora_int_id\":1}", "lora_int_id")]
    [InlineData("{\"lora_name\":\"v1\",\"lora_path\":\"v1\",\"base_model_name\":\"other\"}", "base_model_name")]
    [InlineData("null", "null")]
    [InlineData("{", "body")]
    public async Task A_body_that_is_wrong_is_told_what_is_wrong(string body, string part)
    {
        TestAdapters.Write(Path.Combine(_root, "v1"));
        using HttpRequestMessage request = new(HttpMethod.Post, "/v1/load_lora_adapter") { Content = new StringContent(body) };
        request.Headers.Add("Authorization", $"Bearer {Key}");
        Assert.Contains(part, await RefusedAsync(HttpStatusCode.BadRequest, await _service.Client.SendAsync(request)), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Without_the_key_nothing_happens()
    {
        TestAdapters.Write(Path.Combine(_root, "v1"));
        foreach (string? key in (string?[])[null, "wrong"])
        {
            await RefusedAsync(HttpStatusCode.Unauthorized, await _service.PostAsync("/v1/load_lora_adapter", new { lora_name = "v1", lora_path = "v1" }, key));
            await RefusedAsync(HttpStatusCode.Unauthorized, await _service.PostAsync("/v1/unload_lora_adapter", new { lora_name = "v1" }, key));
        }

        Assert.Equal(["fixed", "support"], NanoService.Names(_service));
    }

    [Theory]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public async Task Without_a_root_or_an_admin_key_there_is_nothing_to_ask(bool hasRoot, bool hasKey)
    {
        await using TestService service = await NanoService.StartAsync(
            model => model.AdapterRoot = hasRoot ? _root : null,
            options =>
            {
                if (hasKey)
                {
                    options.AdminKeys.Add(Key);
                }
            });
        foreach (string path in (string[])["/v1/load_lora_adapter", "/v1/unload_lora_adapter"])
        {
            Assert.Equal(HttpStatusCode.NotFound, (await service.PostAsync(path, new { lora_name = "v1", lora_path = "v1" }, Key)).StatusCode);
        }
    }

    private Task<HttpResponseMessage> LoadAsync(string name, string path) =>
        _service.PostAsync("/v1/load_lora_adapter", new { lora_name = name, lora_path = path }, Key);

    private Task<HttpResponseMessage> UnloadAsync(string name) => _service.PostAsync("/v1/unload_lora_adapter", new { lora_name = name }, Key);

    private static async Task<string> TextAsync(HttpResponseMessage response)
    {
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        return text;
    }

    private static async Task<string> RefusedAsync(HttpStatusCode status, HttpResponseMessage response) =>
        (await TestService.ErrorAsync(status, response)).GetProperty("message").GetString()!;
}
