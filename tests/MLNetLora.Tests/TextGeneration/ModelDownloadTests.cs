using Microsoft.ML;
using Microsoft.ML.Runtime;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Tests.Checkpoints;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>A trainer that is given a hub id of which the cache holds nothing downloads it, tells of it, and can be told not to.</summary>
[Collection(Alone.Name)]
public sealed class ModelDownloadTests : IDisposable
{
    private static readonly string[] s_variables =
        ["HF_ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "USE_MODELSCOPE_HUB", "HF_HOME"];

    private readonly string?[] _before = [.. s_variables.Select(Environment.GetEnvironmentVariable)];
    private readonly FakeHub _hub = new(Directory.EnumerateFiles(Repository.Nano).ToDictionary(file => Path.GetFileName(file), File.ReadAllBytes));
    private readonly List<string> _log = [];
    private readonly MLContext _ml = new(seed: 1);

    public ModelDownloadTests()
    {
        foreach (string name in s_variables)
        {
            Environment.SetEnvironmentVariable(name, null);
        }

        Environment.SetEnvironmentVariable("HF_ENDPOINT", _hub.Server.Address);
        Environment.SetEnvironmentVariable("HF_HUB_CACHE", _hub.Cache);
        Environment.SetEnvironmentVariable("HF_HOME", _hub.Cache); // whoever runs the tests may have a token
        _ml.Log += (_, message) =>
        {
            lock (_log)
            {
                _log.Add($"{message.Kind}: {message.RawMessage}");
            }
        };
    }

    public void Dispose()
    {
        foreach ((string name, string? value) in s_variables.Zip(_before))
        {
            Environment.SetEnvironmentVariable(name, value);
        }

        _hub.Dispose();
    }

    private IDataView Rows => _ml.Data.LoadFromEnumerable<Row>([new("What is the code word?", "", "The code word is heron.")]);

    [Fact]
    public void A_hub_id_that_the_cache_does_not_hold_is_downloaded_and_trained()
    {
        using QwenLoraTransformer model = Trainer($"{FakeHub.Id}@v1.0").Fit(Rows);

        Assert.Equal(_hub.Snapshot(), model.BaseFolder);
        Assert.Equal($"{FakeHub.Id}@v1.0", model.Adapter.BaseModel);
        Assert.NotEmpty(model.Generate("What is the code word?"));
        Assert.Contains($"Info: Looking for {FakeHub.Id}@v1.0 on Hugging Face (127.0.0.1).", _log);
        int asked = _hub.Server.Requests.Count;

        // The cache holds it now: nothing asks again.
        Trainer($"{FakeHub.Id}@v1.0").Preflight(Rows);
        model.Adapter.SaveAsPeft(Path.Combine(_hub.Cache, "peft"));
        using QwenLoraTransformer loaded = _ml.TextGeneration.LoadAdapter($"{FakeHub.Id}@v1.0", Path.Combine(_hub.Cache, "peft"));
        Assert.Equal(_hub.Snapshot(), loaded.BaseFolder);
        Assert.Equal(asked, _hub.Server.Requests.Count);
    }

    [Fact]
    public void Preflight_and_LoadAdapter_download_too()
    {
        Assert.NotNull(Trainer(FakeHub.Id).Preflight(Rows));
        Assert.True(Directory.Exists(_hub.Snapshot()));
        string peft = Path.Combine(_hub.Cache, "peft");
        using (QwenLoraTransformer model = Trainer(FakeHub.Id).Fit(Rows))
        {
            model.Adapter.SaveAsPeft(peft);
        }

        Directory.Delete(_hub.Repository, recursive: true);
        Assert.Throws<CheckpointException>(() => _ml.TextGeneration.LoadAdapter(FakeHub.Id, peft, downloadModel: false).Dispose());
        using QwenLoraTransformer loaded = _ml.TextGeneration.LoadAdapter(FakeHub.Id, peft);
        Assert.Equal(_hub.Snapshot(), loaded.BaseFolder);
    }

    [Fact]
    public void DownloadModel_turns_it_off()
    {
        QwenLoraTrainer trainer = Trainer(FakeHub.Id, options => options.DownloadModel = false);
        Assert.Contains("is neither a folder nor in the Hugging Face cache", Assert.Throws<CheckpointException>(() => trainer.Fit(Rows)).Message);
        Assert.Throws<CheckpointException>(() => trainer.Preflight(Rows));
        Assert.Empty(_hub.Server.Requests);
    }

    [Fact]
    public void Offline_turns_it_off()
    {
        Environment.SetEnvironmentVariable("HF_HUB_OFFLINE", "1");
        Assert.Contains("nothing may be downloaded: HF_HUB_OFFLINE", Assert.Throws<HubException>(() => Trainer(FakeHub.Id).Fit(Rows)).Message);
        Assert.Empty(_hub.Server.Requests);
    }

    [Fact]
    public void A_failure_comes_as_it_is() =>
        Assert.Contains("There is no model Test/unknown", Assert.Throws<HubException>(() => Trainer("Test/unknown").Fit(Rows)).Message);

    [Fact]
    public void A_cancelled_training_stops_the_download()
    {
        using CancellationTokenSource source = new();
        _hub.Misbehaviour = request =>
        {
            source.Cancel();
            return null;
        };
        QwenLoraTrainer trainer = Trainer(FakeHub.Id, options => options.CancellationToken = source.Token);
        Assert.Equal(source.Token, Assert.ThrowsAny<OperationCanceledException>(() => trainer.Fit(Rows)).CancellationToken);
        Assert.False(Directory.Exists(_hub.Snapshot()));
    }

    [Fact]
    public void Progress_reads_as_a_sentence()
    {
        HubProgress half = new("x", 494_000_000, 988_000_000, 9_880_000);
        Assert.Equal("Downloading a/b: 494 of 988 MB (50 %), 9.9 MB/s, 00:00:50 left.", ModelDownload.Line("a/b", half));
        Assert.Equal("Downloading a/b: 0 of 0 MB (0 %), 0.0 MB/s.", ModelDownload.Line("a/b", new HubProgress("x", 0, 0, 0)));
    }

    [Fact]
    public void How_far_it_is_is_told_after_two_seconds_and_then_every_ten()
    {
        List<string> told = [];
        Clock clock = new();
        ModelDownload.Log log = new("a/b", told.Add, clock);
        foreach (double seconds in new[] { 0, 1.9, 2, 3, 11.9, 12, 13, 22 })
        {
            clock.Seconds = seconds;
            log.Report(new HubProgress("x", (long)(seconds * 10e6), 1_000_000_000, 0));
        }

        Assert.Equal(["20", "120", "220"], told.Select(line => line.Split(' ')[2]));
        log.Report(new HubProgress("x", 0, 0, 0) { Message = "The server asks to wait." });
        Assert.Equal("The server asks to wait.", told[^1]);
    }

    [Fact]
    public void A_saved_model_downloads_nothing()
    {
        using Workbench bench = new();
        string zip;
        using (QwenLoraTransformer model = bench.Model())
        {
            zip = bench.Save(model);
        }

        Directory.Delete(bench.BaseFolder, recursive: true);
        _ml.TextGeneration.UseBaseModel(FakeHub.Id);
        Assert.Contains("does not hold it", Assert.Throws<CheckpointException>(() => _ml.TextGeneration.Load(zip).Dispose()).Message);
        Assert.Empty(_hub.Server.Requests);
    }

    private QwenLoraTrainer Trainer(string model, Action<QwenLoraTrainer.Options>? change = null)
    {
        QwenLoraTrainer.Options options = new() { ModelPath = model, Rank = 2, GradientAccumulationSteps = 1, NumberOfEpochs = 1 };
        options.Generation.MaximumNewTokens = 2;
        change?.Invoke(options);
        return _ml.TextGeneration.Trainers.QwenLora(options);
    }

    private sealed class Clock : TimeProvider
    {
        public double Seconds { get; set; }

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => (long)(Seconds * 1000);
    }
}
