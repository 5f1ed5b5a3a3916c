using System.Diagnostics;
using MLNetLora.Cli.Configuration;
using MLNetLora.Tests.Checkpoints;

namespace MLNetLora.Cli.Tests;

/// <summary>Models by their hub ids, from a server on loopback.</summary>
public sealed class HubTests : IDisposable
{
    private readonly FakeHub _hub = new(Directory.EnumerateFiles(Repository.Nano).Where(path => !path.EndsWith("README.md", StringComparison.Ordinal))
        .ToDictionary(path => Path.GetFileName(path), File.ReadAllBytes));

    private readonly TemporaryFolder _folder = new();

    public void Dispose()
    {
        _hub.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public async Task A_model_is_downloaded_and_found_again_without_a_network()
    {
        string[] where = ["--endpoint", _hub.Server.Address, "--cache", _hub.Cache];
        Outcome run = (await Cli.Run(["download", FakeHub.Id, .. where, "--connections", "2"])).Succeeded();
        Assert.Equal([_hub.Snapshot()], run.Lines);
        Assert.Equal(_hub.Files["config.json"], File.ReadAllBytes(Path.Combine(_hub.Snapshot(), "config.json")));
        Assert.Contains("model.safetensors", run.Error, StringComparison.Ordinal);
        int asked = _hub.Server.Requests.Count;
        Assert.Equal([_hub.Snapshot()], (await Cli.Run(["download", FakeHub.Id, .. where, "--offline"])).Succeeded().Lines);
        Assert.Equal(asked, _hub.Server.Requests.Count);
        Assert.Equal([_hub.Snapshot(FakeHub.Second)], (await Cli.Run(["download", $"{FakeHub.Id}@refs/pr/1", .. where])).Succeeded().Lines);
    }

    [Theory]
    [InlineData("Test/nothing", "There is no model Test/nothing")]
    [InlineData("Test/model-1.5@nothing", "no revision 'nothing'")]
    [InlineData("no hub id", "'no hub id'")]
    public async Task A_model_that_is_not_there_is_said(string id, string said)
    {
        Outcome run = await Cli.Run("download", id, "--endpoint", _hub.Server.Address, "--cache", _hub.Cache);
        Assert.Equal(ExitCode.Usage, run.Code);
        Assert.Contains(said, run.Error, StringComparison.Ordinal);
        Assert.Empty(run.Out);
    }

    [Fact]
    public async Task A_server_that_fails_is_the_run_s_failure()
    {
        _hub.Misbehaviour = _ => new HubReply(400, "no");
        Assert.Equal(ExitCode.Failure, (await Cli.Run("download", FakeHub.Id, "--endpoint", _hub.Server.Address, "--cache", _hub.Cache)).Code);
    }

    [Theory]
    [InlineData("generate", "Hello")]
    [InlineData("evaluate", "--data", "DATA", "--maximum-rows", "1", "--loss-only")]
    [InlineData("chat")]
    public async Task What_answers_is_downloaded_as_what_is_trained(string command, params string[] more)
    {
        string[] line = [command, "--model", FakeHub.Id, "--max-new-tokens", "2", .. more.Select(word => word == "DATA" ? Repository.Data : word)];
        Outcome none = await Run([.. line, "--download-model", "false"]);
        Assert.Equal(ExitCode.Usage, none.Code);
        Assert.Contains("'mlnetlora download'", none.Error, StringComparison.Ordinal);
        Assert.NotEqual(0, (await Run(line, ("HF_HUB_OFFLINE", "1"))).Code);
        Assert.Empty(_hub.Server.Requests);
        Outcome run = (await Run([.. line, "--model-revision", "v1.0"])).Succeeded();
        Assert.Contains(" MB/s", run.Error, StringComparison.Ordinal);
        Assert.Contains(_hub.Server.Requests, request => request.Target.Contains("v1.0", StringComparison.Ordinal));
        Assert.NotEmpty(Directory.EnumerateFiles(_hub.Snapshot()));
    }

    [Fact]
    public async Task A_base_that_only_an_adapter_s_file_names_is_not_downloaded()
    {
        (await Cli.Run("train", "-m", Repository.Nano, "-d", Repository.Data, "-o", _folder.At("out"), "--max-steps", "1", "--rank", "2")).Succeeded();
        string config = _folder.At("out/adapter_config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace(Repository.Nano, FakeHub.Id, StringComparison.Ordinal));
        Outcome refused = await Run(["generate", "--model", _folder.At("out"), "Hello"]);
        Assert.Equal(ExitCode.Usage, refused.Code);
        Assert.Empty(_hub.Server.Requests);
    }

    [Theory]
    [InlineData("Qwen/Qwen3-0.6B", "v1.0", "Qwen/Qwen3-0.6B@v1.0")]
    [InlineData("Qwen/Qwen3-0.6B", "refs/pr/7", "Qwen/Qwen3-0.6B@refs/pr/7")]
    [InlineData("Qwen/Qwen3-0.6B", "main", "Qwen/Qwen3-0.6B")]
    [InlineData("./a/folder", "v1.0", "./a/folder")]
    public void A_revision_goes_with_a_hub_id(string model, string revision, string expected)
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.AddFile(_folder.Write("run.yaml", $"model_name_or_path: {model}\nmodel_revision: {revision}\n"));
        Assert.Equal(expected, reader.Settings().Training.ModelPath);
        Assert.Equal(model.StartsWith('.'), reader.Ignored.Count > 0);
    }

    [Fact]
    public void Two_revisions_are_one_too_many()
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.AddFile(_folder.Write("run.yaml", "model_path: Qwen/Qwen3-0.6B@v2\nmodel_revision: v1.0\n"));
        Assert.Contains("names a revision already", Assert.Throws<ConfigException>(() => reader.Settings()).Message, StringComparison.Ordinal);
    }

    /// <summary>Runs the command as a process, whose environment leads to the hub.</summary>
    private async Task<Outcome> Run(string[] arguments, params (string Name, string Value)[] variables)
    {
        ProcessStartInfo start = new("dotnet", [typeof(CommandLine).Assembly.Location, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (string name in start.Environment.Keys.Where(name => name.StartsWith("HF_", StringComparison.Ordinal)
            || name.EndsWith("_PROXY", StringComparison.OrdinalIgnoreCase)).ToArray())
        {
            start.Environment.Remove(name);
        }

        start.Environment["HF_ENDPOINT"] = _hub.Server.Address;
        start.Environment["HF_HUB_CACHE"] = _hub.Cache;
        foreach ((string name, string value) in variables)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return new Outcome(process.ExitCode, output, await error);
    }
}
