using System.Net;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>A folder where adapters appear, change and disappear.</summary>
public sealed class AdapterWatcherTests : IAsyncLifetime, IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _watched;
    private readonly string _one;
    private readonly string _two;
    private TestService _service = null!;
    private AdapterWatcher _watcher = null!;

    public AdapterWatcherTests()
    {
        _watched = Directory.CreateDirectory(_folder.File("watched")).FullName;
        _one = TestAdapters.Write(_folder.File("one"), seed: 1);
        _two = TestAdapters.Write(_folder.File("two"), seed: 2);
    }

    public async Task InitializeAsync()
    {
        _service = await NanoService.StartAsync(model => model.MaximumAdapters = 2);
        _watcher = new AdapterWatcher("support", _watched, _service.Get<ServingHost>().Models[0].Adapters!, _service.Get<HostServices>());
    }

    public async Task DisposeAsync() => await _service.DisposeAsync();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task An_adapter_is_loaded_when_two_looks_saw_the_same()
    {
        TestAdapters.Copy(_one, In("v1"));
        await LookAsync();
        Assert.Null(NanoService.Answer(_service, "v1"));
        Assert.True(_watcher.IsWaiting);
        await LookAsync();
        Assert.Equal(NanoService.Expected(_one), NanoService.Answer(_service, "v1"));
        Assert.False(_watcher.IsWaiting);
    }

    [Fact]
    public async Task One_that_a_request_loads_while_it_is_written_is_refused()
    {
        bool isWritten = true;
        Checkpoint checkpoint = Checkpoint.Open(Repository.Nano);
        AdapterSet adapters = new("support", checkpoint, Attach, most: 4, _service.Get<HostServices>());
        AdapterRefusal? refusal = await adapters.LoadAsync("v1", _one, AdapterSource.Request, false, null, CancellationToken.None);
        Assert.Contains("changed while", refusal!.Error.Message, StringComparison.Ordinal);
        Assert.Equal(["support"], NanoService.Names(_service));
        isWritten = false;
        Assert.Null(await adapters.LoadAsync("v1", _one, AdapterSource.Request, false, null, CancellationToken.None));

        TextGenerator Attach(string name, LoraAdapter adapter)
        {
            if (isWritten)
            {
                File.SetLastWriteTimeUtc(Path.Combine(_one, LoraAdapter.WeightsName), new DateTime(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));
            }

            return new TextGenerator(checkpoint, adapter, threads: 1);
        }
    }

    [Fact]
    public async Task One_that_is_still_being_written_is_waited_for()
    {
        Directory.CreateDirectory(In("v1"));
        await LookAsync(3);
        foreach (string name in TestAdapters.FileNames)
        {
            byte[] bytes = await File.ReadAllBytesAsync(Path.Combine(_one, name));
            await File.WriteAllBytesAsync(Path.Combine(In("v1"), name), bytes[..(bytes.Length / 2)]);
            await LookAsync();
            Assert.Equal(["support"], NanoService.Names(_service));
            await File.WriteAllBytesAsync(Path.Combine(In("v1"), name), bytes);
            await LookAsync();
            Assert.Equal(["support"], NanoService.Names(_service));
        }

        Assert.Equal("ok", await HealthAsync());
        await LookAsync();
        Assert.Equal(["support", "v1"], NanoService.Names(_service));
    }

    [Theory]
    [InlineData("mlnetlora_prompt.json")]
    [InlineData("adapter_config.json")]
    [InlineData("adapter_model.safetensors")]
    public async Task What_is_no_file_is_not_read_without_end(string name)
    {
        if (OperatingSystem.IsWindows())
        {
            return; // has no such files
        }

        TestAdapters.Copy(_one, In("v1"));
        File.Delete(Path.Combine(In("v1"), name));
        File.CreateSymbolicLink(Path.Combine(In("v1"), name), "/dev/zero");
        await LookAsync(12);
        Assert.Equal("degraded", await HealthAsync());
        Assert.Contains($"{name} is missing or empty", _service.Log.Text, StringComparison.Ordinal);
        AdapterException refused = Assert.Throws<AdapterException>(() => AdapterFolder.Read(In("v1"), Checkpoint.Open(Repository.Nano)));
        Assert.Contains("is empty, or no file", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_that_stays_incomplete_is_told_of()
    {
        Directory.CreateDirectory(In("v1"));
        File.Copy(Path.Combine(_one, "adapter_config.json"), Path.Combine(In("v1"), "adapter_config.json"));
        await LookAsync(12);
        Assert.Equal("degraded", await HealthAsync());
        Assert.Contains("adapter_model.safetensors is missing", _service.Log.Text, StringComparison.Ordinal);
        TestAdapters.Copy(_one, In("v1"));
        await LookAsync(2);
        Assert.Equal("ok", await HealthAsync());
    }

    [Fact]
    public async Task Another_one_takes_its_place_and_requests_end_with_the_old_one()
    {
        await PutAsync(_one, "v1");
        using ModelLease old = _service.Get<ModelRegistry>().Lease("v1")!;
        await PutAsync(_two, "v1");
        Assert.Equal(NanoService.Expected(_two), NanoService.Answer(_service, "v1"));
        Assert.Equal(NanoService.Expected(_one), NanoService.Answer(old.Generator));
        old.Dispose();
        Assert.Throws<ObjectDisposedException>(() => NanoService.Answer(old.Generator));
    }

    [Fact]
    public async Task The_same_one_written_again_is_not_loaded_again()
    {
        await PutAsync(_one, "v1");
        DateTimeOffset loaded = Model("v1").Created;
        await PutAsync(_one, "v1");
        File.SetLastWriteTimeUtc(Path.Combine(In("v1"), "adapter_config.json"), DateTime.UnixEpoch);
        await LookAsync(3);
        Assert.Equal(loaded, Model("v1").Created);
    }

    [Fact]
    public async Task A_bad_one_is_refused_and_the_old_one_answers_on()
    {
        await PutAsync(_one, "v1");
        await PutAsync(TestAdapters.Write(_folder.File("nan"), seed: 3, values => values[0] = float.NaN), "v1");
        Assert.Equal(NanoService.Expected(_one), NanoService.Answer(_service, "v1"));
        (HttpStatusCode status, JsonElement health) = await _service.ReadyAsync();
        Assert.Equal((HttpStatusCode.OK, "degraded"), (status, health.GetProperty("status").GetString()));
        string reason = health.GetProperty("reasons").GetProperty("support: adapter v1").GetString()!;
        Assert.Contains("NaN", reason, StringComparison.Ordinal);
        Assert.Contains("answers on", reason, StringComparison.Ordinal);
        await LookAsync(20);
        Assert.Equal(1, _service.Log.Text.Split("NaN").Length - 1); // said once

        await PutAsync(_two, "v1");
        Assert.Equal(NanoService.Expected(_two), NanoService.Answer(_service, "v1"));
        Assert.Equal("ok", await HealthAsync());
    }

    [Theory]
    [InlineData("adapter_config.json", "{ not json")]
    [InlineData("adapter_config.json", "{}")]
    [InlineData("adapter_model.safetensors", "no weights")]
    public async Task Files_that_are_none_are_refused(string name, string text)
    {
        TestAdapters.Copy(_one, In("v1"));
        await File.WriteAllTextAsync(Path.Combine(In("v1"), name), text);
        await LookAsync(3);
        Assert.Equal(["support"], NanoService.Names(_service));
        Assert.Equal("degraded", await HealthAsync());
        Directory.Delete(In("v1"), recursive: true);
        await LookAsync(2);
        Assert.Equal("ok", await HealthAsync());
    }

    [Fact]
    public async Task One_that_is_gone_is_unloaded_when_two_looks_did_not_see_it()
    {
        await PutAsync(_one, "v1");
        Directory.Delete(In("v1"), recursive: true);
        await LookAsync();
        Assert.Equal(["support", "v1"], NanoService.Names(_service));
        await LookAsync();
        Assert.Equal(["support"], NanoService.Names(_service));
        await PutAsync(_one, "v1");
        Assert.Equal(["support", "v1"], NanoService.Names(_service));
    }

    [Fact]
    public async Task A_folder_that_is_away_takes_no_adapter_with_it()
    {
        await PutAsync(_one, "v1");
        Directory.Move(_watched, _watched + "-away");
        await LookAsync(5);
        Assert.Equal(["support", "v1"], NanoService.Names(_service));
        Assert.Equal("degraded", await HealthAsync());
        Directory.Move(_watched + "-away", _watched);
        await LookAsync(2);
        Assert.Equal("ok", await HealthAsync());
        Assert.Equal(["support", "v1"], NanoService.Names(_service));
    }

    [Fact]
    public async Task Names_that_are_taken_or_hidden_are_not_loaded()
    {
        TestAdapters.Copy(_one, In("support"));
        TestAdapters.Copy(_one, In(".hidden"));
        string before = NanoService.Answer(_service, "support")!;
        await LookAsync(3);
        Assert.Equal(["support"], NanoService.Names(_service));
        Assert.Equal(before, NanoService.Answer(_service, "support"));
        Assert.Equal("degraded", await HealthAsync());
    }

    [Fact]
    public async Task No_more_are_loaded_than_may_be_and_a_place_that_is_free_is_taken()
    {
        await PutAsync(_one, "v1");
        await PutAsync(_one, "v2");
        await PutAsync(_one, "v3");
        Assert.Equal(["support", "v1", "v2"], NanoService.Names(_service));
        Assert.Equal("degraded", await HealthAsync());
        Directory.Delete(In("v1"), recursive: true);
        await LookAsync(20);
        Assert.Equal(["support", "v2", "v3"], NanoService.Names(_service));
        Assert.Equal("ok", await HealthAsync());
    }

    [LinuxFact]
    public async Task The_link_swap_of_a_kubernetes_volume_is_one_change()
    {
        // As a ConfigMap or a projected volume is mounted: v1 -> ..data/v1, ..data -> ..2026_1
        TestAdapters.Copy(_one, In("..2026_1/v1"));
        Directory.CreateSymbolicLink(In("..data"), "..2026_1");
        Directory.CreateSymbolicLink(In("v1"), "..data/v1");
        await LookAsync(2);
        Assert.Equal(["support", "v1"], NanoService.Names(_service));
        Assert.Equal(NanoService.Expected(_one), NanoService.Answer(_service, "v1"));

        TestAdapters.Copy(_two, In("..2026_2/v1"));
        Directory.CreateSymbolicLink(In("..data_tmp"), "..2026_2");
        Rename(In("..data_tmp"), In("..data"));
        Directory.Delete(In("..2026_1"), recursive: true);
        await LookAsync();
        Assert.Equal(NanoService.Expected(_one), NanoService.Answer(_service, "v1"));
        await LookAsync();
        Assert.Equal(NanoService.Expected(_two), NanoService.Answer(_service, "v1"));
        Assert.Equal("ok", await HealthAsync());
    }

    [LinuxFact]
    public async Task A_volume_that_is_an_adapter_itself_is_followed_too()
    {
        TestAdapters.Copy(_one, In("v1/..2026_1"));
        Directory.CreateSymbolicLink(In("v1/..data"), "..2026_1");
        foreach (string name in TestAdapters.FileNames)
        {
            File.CreateSymbolicLink(In($"v1/{name}"), $"..data/{name}");
        }

        await LookAsync(2);
        Assert.Equal(NanoService.Expected(_one), NanoService.Answer(_service, "v1"));
        TestAdapters.Copy(_two, In("v1/..2026_2"));
        Directory.CreateSymbolicLink(In("v1/..data_tmp"), "..2026_2");
        Rename(In("v1/..data_tmp"), In("v1/..data"));
        await LookAsync(2);
        Assert.Equal(NanoService.Expected(_two), NanoService.Answer(_service, "v1"));
    }

    [Fact]
    public async Task What_lies_there_at_the_start_is_served_from_the_start_and_what_comes_later_by_itself()
    {
        TestAdapters.Copy(_one, In("v1"));
        await using TestService service = await NanoService.StartAsync(model => model.WatchFolder = _watched);
        Assert.Equal(["support", "v1"], NanoService.Names(service));
        TestAdapters.Copy(_two, In("v2"));
        await TestService.UntilAsync(() => NanoService.Names(service).Contains("v2"));
        Directory.Delete(In("v1"), recursive: true);
        await TestService.UntilAsync(() => !NanoService.Names(service).Contains("v1"));
    }

    /// <summary>rename(2), which puts a link in the place of another in one step; File.Move does not take links to folders.</summary>
    private static void Rename(string from, string to)
    {
        using System.Diagnostics.Process move = System.Diagnostics.Process.Start("mv", ["-fT", from, to]);
        move.WaitForExit();
        Assert.Equal(0, move.ExitCode);
    }

    private string In(string name) => Path.Combine(_watched, name);

    private ServedModel Model(string name) => _service.Get<ModelRegistry>().Models.Single(model => model.Name == name);

    private async Task PutAsync(string adapter, string name)
    {
        TestAdapters.Copy(adapter, In(name));
        await LookAsync(2);
    }

    private async Task LookAsync(int times = 1)
    {
        for (int i = 0; i < times; i++)
        {
            await _watcher.LookAsync(CancellationToken.None);
        }
    }

    private async Task<string> HealthAsync() => (await _service.ReadyAsync()).Body.GetProperty("status").GetString()!;
}
