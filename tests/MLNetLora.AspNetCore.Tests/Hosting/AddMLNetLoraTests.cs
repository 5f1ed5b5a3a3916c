using System.Net;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>How models come into an application.</summary>
public sealed class AddMLNetLoraTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_base_and_its_adapters_answer_under_their_names()
    {
        string path = TestAdapters.Write(_folder.File("v1"));
        await using TestService service = await NanoService.StartAsync(model => model.Adapters["v1"] = path);
        Assert.Equal(["support", "v1"], NanoService.Names(service));
        string expected = NanoService.Expected(path);
        Assert.Equal(expected, NanoService.Answer(service, "v1"));
        Assert.NotEqual(expected, NanoService.Answer(service, "support"));
        Assert.Equal("support", service.Get<ModelRegistry>().Models.Single(model => model.Name == "v1").Parent);
        (HttpStatusCode status, JsonElement health) = await service.ReadyAsync();
        Assert.Equal((HttpStatusCode.OK, "ok"), (status, health.GetProperty("status").GetString()));
    }

    [Fact]
    public async Task A_service_starts_before_its_model_is_loaded_and_says_that_it_is_not_ready()
    {
        TaskCompletionSource go = new();
        await using TestService service = await TestService.StartAsync(services: all =>
        {
            all.AddMLNetLora("support", model => model.ModelPath = Repository.Nano);
            all.AddSingleton<TimeProvider>(new HeldTime(go.Task));
        });
        (HttpStatusCode status, JsonElement health) = await service.ReadyAsync();
        Assert.Equal(HttpStatusCode.ServiceUnavailable, status);
        Assert.Contains("being loaded", health.GetProperty("reasons").GetProperty("support").GetString(), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.OK, (await service.Client.GetAsync("/health/live")).StatusCode);
        go.SetResult();
        await service.Get<ServingHost>().Models[0].Ready;
        Assert.Equal(HttpStatusCode.OK, (await service.ReadyAsync()).Status);
    }

    [Fact]
    public async Task Models_are_loaded_one_after_another_and_it_is_said_which_one_waits()
    {
        TaskCompletionSource go = new();
        await using TestService service = await TestService.StartAsync(services: all =>
        {
            all.AddMLNetLora("first", model => model.ModelPath = Repository.Nano);
            all.AddMLNetLora("second", model => model.ModelPath = Repository.Nano);
            all.AddSingleton<TimeProvider>(new HeldTime(go.Task));
        });
        JsonElement reasons = (await service.ReadyAsync()).Body.GetProperty("reasons");
        Assert.Contains("being loaded", reasons.GetProperty("first").GetString(), StringComparison.Ordinal);
        Assert.Equal("the model is loaded when first has been", reasons.GetProperty("second").GetString());
        go.SetResult();
        await service.Get<ServingHost>().Models[1].Ready;
        Assert.Equal(HttpStatusCode.OK, (await service.ReadyAsync()).Status);
        Assert.Contains("Loading 1 of 2: first", service.Log.Text, StringComparison.Ordinal);
        Assert.Contains("Loading 2 of 2: second", service.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_takes_long_to_load_is_said_to_do_so()
    {
        ManualTime time = new();
        await using TestService service = await TestService.StartAsync(services: all => all.AddSingleton<TimeProvider>(time));
        SlowComponent slow = new();
        Task loading = new LoadProgress(service.Get<HostServices>()).RunAsync(slow, 1, 1, CancellationToken.None);
        foreach (int seconds in (int[])[2, 2, 4, 8])
        {
            await TestService.UntilAsync(() => time.IsAwaited);
            time.Advance(TimeSpan.FromSeconds(seconds));
        }

        await TestService.UntilAsync(() => service.Log.Text.Contains("slow: its weights; 16 s so far.", StringComparison.Ordinal));
        slow.Loaded.SetResult();
        await loading;
        Assert.Equal(4, service.Log.Text.Split("so far.").Length - 1);
        Assert.False(time.IsAwaited);
    }

    [Fact]
    public async Task A_model_that_cannot_be_loaded_ends_the_application()
    {
        File.Copy(Path.Combine(Repository.Nano, "config.json"), _folder.File("config.json"));
        int before = Environment.ExitCode;
        try
        {
            await using TestService service = await TestService.StartAsync(
                services: all => all.AddMLNetLora("support", model => model.ModelPath = _folder.Path));
            IHostApplicationLifetime lifetime = service.Get<IHostApplicationLifetime>();
            await TestService.UntilAsync(() => lifetime.ApplicationStopping.IsCancellationRequested);
            Assert.Equal(1, Environment.ExitCode);
            Assert.Contains("cannot be served", service.Log.Text, StringComparison.Ordinal);
        }
        finally
        {
            Environment.ExitCode = before;
        }
    }

    [Fact]
    public async Task An_adapter_of_the_options_that_cannot_be_loaded_ends_the_application()
    {
        string path = TestAdapters.Write(_folder.File("v1"), change: values => values[3] = float.NaN);
        int before = Environment.ExitCode;
        try
        {
            await using TestService service = await TestService.StartAsync(services: all => all.AddMLNetLora("support", model =>
            {
                model.ModelPath = Repository.Nano;
                model.Adapters["v1"] = path;
            }));
            AdapterException error = await Assert.ThrowsAsync<AdapterException>(() => service.Get<ServingHost>().Models[0].Ready);
            Assert.Contains("NaN", error.Message, StringComparison.Ordinal);
            IHostApplicationLifetime lifetime = service.Get<IHostApplicationLifetime>();
            await TestService.UntilAsync(() => lifetime.ApplicationStopping.IsCancellationRequested);
        }
        finally
        {
            Environment.ExitCode = before;
        }
    }

    [Theory]
    [InlineData("q_proj", false)]
    [InlineData("q_proj,v_proj", true)]
    [InlineData("all-linear", true)]
    [InlineData("", true)]
    public async Task Adapters_share_the_base_where_it_was_opened_for_their_layers(string modules, bool shares)
    {
        string path = TestAdapters.Write(_folder.File("v1"));
        await using TestService service = await NanoService.StartAsync(model =>
        {
            model.Adapters["v1"] = path;
            foreach (string module in modules.Split(',', StringSplitOptions.RemoveEmptyEntries))
            {
                model.AdapterModules.Add(module);
            }
        });
        Assert.Equal(NanoService.Expected(path), NanoService.Answer(service, "v1"));
        Assert.Equal(!shares, service.Log.Text.Contains("weights of its own", StringComparison.Ordinal));
    }

    [Fact]
    public async Task An_adapter_that_cannot_share_is_answered_all_the_same()
    {
        string path = TestAdapters.Write(_folder.File("dora"), dora: true);
        await using TestService service = await NanoService.StartAsync(model => model.Adapters["v1"] = path);
        Assert.Equal(NanoService.Expected(path), NanoService.Answer(service, "v1"));
        Assert.Contains("weights of its own", service.Log.Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task No_more_adapters_have_weights_of_their_own_than_may()
    {
        string one = TestAdapters.Write(_folder.File("one"), seed: 1, dora: true);
        string two = TestAdapters.Write(_folder.File("two"), seed: 2, dora: true);
        string plain = TestAdapters.Write(_folder.File("plain"));
        await using TestService service = await NanoService.StartAsync(model => (model.AdapterRoot, model.MaximumUnsharedAdapters) = (_folder.Path, 1));
        AdapterSet adapters = service.Get<ServingHost>().Models[0].Adapters!;
        Assert.Null(await LoadAsync("v1", one));
        AdapterRefusal? refusal = await LoadAsync("v2", two);
        Assert.Equal(("too_many_adapters", true), (refusal?.Error.Code, refusal?.MayPass));
        Assert.Contains("MaximumUnsharedAdapters is 1", refusal?.Error.Message, StringComparison.Ordinal);
        Assert.Null(await LoadAsync("v1", two)); // in its own place
        Assert.Null(await LoadAsync("v3", plain));
        Assert.Equal(NanoService.Expected(two), NanoService.Answer(service, "v1"));
        Assert.Null(await adapters.UnloadAsync("v1", AdapterSource.Request, CancellationToken.None));
        Assert.Null(await LoadAsync("v2", two));

        Task<AdapterRefusal?> LoadAsync(string name, string path) => adapters.LoadAsync(name, path, AdapterSource.Request, true, null, CancellationToken.None);
    }

    [Fact]
    public async Task Adapters_with_weights_of_their_own_can_be_refused_and_others_say_what_they_take()
    {
        string path = TestAdapters.Write(_folder.File("dora"), dora: true);
        string plain = TestAdapters.Write(_folder.File("plain"));
        await using TestService service = await NanoService.StartAsync(model =>
        {
            model.MaximumUnsharedAdapters = 0;
            model.Adapters["plain"] = plain;
        });
        AdapterRefusal? refusal = await service.Get<ServingHost>().Models[0].Adapters!
            .LoadAsync("v1", path, AdapterSource.Request, false, null, CancellationToken.None);
        Assert.False(refusal?.MayPass);
        Assert.Contains("DoRA", refusal?.Error.Message, StringComparison.Ordinal);
        long bytes = new FileInfo(Path.Combine(plain, "adapter_model.safetensors")).Length; // and a header
        Assert.Contains($"It takes up to {MachineMemory.Gigabytes(bytes)} of memory", service.Log.Text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, false)]
    [InlineData(1 << 20, true)]
    public async Task Beginnings_of_prompts_are_kept_as_long_as_the_options_say(long bytes, bool areKept)
    {
        await using TestService service = await NanoService.StartAsync(model => model.PrefixCacheBytes = bytes);
        using ModelLease lease = service.Get<ModelRegistry>().Lease("support")!;
        Text.InstructionRow row = new(string.Concat(Enumerable.Repeat("Who are you? ", 20)));
        Inference.GenerationOptions one = new() { MaximumNewTokens = 1, Temperature = 0 };
        lease.Generator.Generate([row], one);
        Assert.Equal(areKept, lease.Generator.Generate([row], one)[0].CachedPromptTokens > 0);
    }

    [Fact]
    public async Task Weights_are_held_as_the_options_say()
    {
        Assert.NotEqual(await LogprobAsync(WeightPrecision.Checkpoint), await LogprobAsync(WeightPrecision.Int8));

        static async Task<float> LogprobAsync(WeightPrecision precision)
        {
            await using TestService service = await NanoService.StartAsync(model => model.Precision = precision);
            using ModelLease lease = service.Get<ModelRegistry>().Lease("support")!;
            Assert.Equal(1, lease.Generator.Threads);
            Inference.GenerationOptions options = new() { MaximumNewTokens = 1, Temperature = 0, TopLogprobs = 0 };
            return lease.Generator.Generate([new Text.InstructionRow("Hello")], options)[0].Tokens![0].Logprob;
        }
    }

    [Fact]
    public async Task A_device_that_is_not_there_ends_the_application()
    {
        int before = Environment.ExitCode;
        try
        {
            await using TestService service = await TestService.StartAsync(services: all => all.AddMLNetLora("support", model =>
            {
                model.ModelPath = Repository.Nano;
                model.Device = new CudaDevice();
            }));
            await Assert.ThrowsAsync<DeviceException>(() => service.Get<ServingHost>().Models[0].Ready);
            IHostApplicationLifetime lifetime = service.Get<IHostApplicationLifetime>();
            await TestService.UntilAsync(() => lifetime.ApplicationStopping.IsCancellationRequested);
        }
        finally
        {
            Environment.ExitCode = before;
        }
    }

    [Fact]
    public async Task Requests_that_need_more_memory_than_they_may_have_are_refused()
    {
        await using TestService service = await NanoService.StartAsync(model => model.MaximumCacheBytes = 1 << 20);
        using ModelLease lease = service.Get<ModelRegistry>().Lease("support")!;
        Assert.Throws<OptionException>(() => lease.Generator.Generate(
            [new Text.InstructionRow("Hello")], new Inference.GenerationOptions { MaximumNewTokens = 4000 }));
    }

    [Fact]
    public async Task A_configuration_says_all_of_it()
    {
        string path = TestAdapters.Write(_folder.File("v1"));
        IConfiguration configuration = Configuration(new()
        {
            ["MLNetLora:Models:support:ModelPath"] = Repository.Nano,
            ["MLNetLora:Models:support:Precision"] = "Int8",
            ["MLNetLora:Models:support:Device"] = "cpu",
            ["MLNetLora:Models:support:Threads"] = "1",
            ["MLNetLora:Models:support:Adapters:v1"] = path,
            ["MLNetLora:ApiKeys:0"] = "key",
            ["MLNetLora:MaximumConcurrentRequests"] = "3",
            ["MLNetLora:RequestTimeout"] = "00:01:00",
        });
        await using TestService service = await TestService.StartAsync(services: all => all.AddMLNetLora(configuration.GetSection("MLNetLora")));
        await service.Get<ServingHost>().Models[0].Ready;
        Assert.Equal(["support", "v1"], NanoService.Names(service));
        ServedModelOptions model = service.Get<IOptionsMonitor<ServedModelOptions>>().Get("support");
        Assert.Equal((WeightPrecision.Int8, Device.Cpu, 1), (model.Precision, model.Device, model.Threads));
        ServingOptions serving = service.Get<IOptions<ServingOptions>>().Value;
        Assert.Equal((3, TimeSpan.FromMinutes(1), "key"), (serving.MaximumConcurrentRequests, serving.RequestTimeout, serving.ApiKeys.Single()));
    }

    [Theory]
    [InlineData("cuda:1", 1)]
    [InlineData("cuda", 0)]
    public void A_configuration_names_a_gpu(string text, int id)
    {
        ServedModelOptions options = new();
        Configuration(new() { ["Device"] = text }).Bind(options);
        Assert.Equal(new CudaDevice { DeviceId = id }, options.Device);
    }

    [Fact]
    public void Settings_that_nobody_knows_are_named()
    {
        IConfiguration configuration = Configuration(new() { ["MLNetLora:Models:support:ModelPath"] = "x", ["MLNetLora:ApiKey"] = "key" });
        OptionException error = Assert.Throws<OptionException>(() => new ServiceCollection().AddMLNetLora(configuration.GetSection("MLNetLora")));
        Assert.Contains("MLNetLora:ApiKey", error.Message, StringComparison.Ordinal);
        Assert.Contains("MLNetLora:Models:NAME:ModelPath", Assert.Throws<OptionException>(
            () => new ServiceCollection().AddMLNetLora(Configuration([]).GetSection("MLNetLora"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Settings_of_a_model_that_nobody_knows_end_the_start()
    {
        IConfiguration configuration = Configuration(new() { ["ModelPath"] = Repository.Nano, ["WatchFoldr"] = "x" });
        Exception error = await Assert.ThrowsAnyAsync<Exception>(() => TestService.StartAsync(services: all => all.AddMLNetLora("support", configuration)));
        Assert.Contains("WatchFoldr", error.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void One_name_is_one_model()
    {
        IServiceCollection services = new ServiceCollection().AddMLNetLora("support", _ => { });
        Assert.Contains("'support'", Assert.Throws<OptionException>(() => services.AddMLNetLora("support", _ => { })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task All_that_is_wrong_with_a_model_is_said_at_the_start()
    {
        string[] sentences = await FaultsAsync("a name!", model =>
        {
            model.Precision = (WeightPrecision)99;
            model.Threads = -1;
            model.Device = new CudaDevice { DeviceId = -1 };
            model.Adapters["a name!"] = _folder.Path;
            model.Adapters["bad name"] = _folder.File("nothing");
            model.WatchFolder = _folder.File("no-watch");
            model.AdapterRoot = _folder.File("no-root");
            model.WatchPeriod = TimeSpan.Zero;
            model.MaximumAdapters = 1;
            model.MaximumCacheBytes = 0;
            model.MaximumUnsharedAdapters = -1;
            model.AdapterModules.Add("");
        });
        foreach (string part in (string[])["the name is no name", "ModelPath is not set", "Precision", "Threads", "DeviceId", "'a name!' is that of the base",
            "'bad name' is no name", "Adapters:bad name", "no-watch", "no-root", "WatchPeriod", "MaximumAdapters", "MaximumCacheBytes",
            "MaximumUnsharedAdapters", "AdapterModules"])
        {
            Assert.Contains(sentences, sentence => sentence.Contains(part, StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData(false, "owner/model", "hf download")]
    [InlineData(true, "/nowhere/model", "There is no folder")]
    public async Task A_model_that_is_nowhere_is_named_at_the_start(bool download, string path, string part)
    {
        string[] sentences = await FaultsAsync("support", model => (model.ModelPath, model.DownloadModel) = (path, download));
        Assert.Contains(part, Assert.Single(sentences), StringComparison.Ordinal);
    }

    [Fact]
    public async Task All_that_is_wrong_with_the_service_is_said_at_the_start()
    {
        await File.WriteAllTextAsync(_folder.File("empty"), "# nothing\n");
        OptionsValidationException error = await Assert.ThrowsAsync<OptionsValidationException>(() => TestService.StartAsync(options =>
        {
            options.MaximumConcurrentRequests = 0;
            options.MaximumQueuedRequests = -1;
            options.MaximumRequestBytes = 0;
            options.MaximumBodyBytes = 100;
            options.QueueTimeout = TimeSpan.Zero;
            options.RequestTimeout = TimeSpan.FromDays(3);
            options.DrainDelay = TimeSpan.FromSeconds(-1);
            options.DrainTimeout = TimeSpan.FromDays(3);
            options.ApiKeys.Add(" ");
            options.ApiKeyFile = _folder.File("nothing");
            options.AdminKeyFile = _folder.File("empty");
        }));
        string[] sentences = [.. error.Failures];
        Assert.Equal(11, sentences.Length);
        foreach (string option in (string[])["MaximumConcurrentRequests", "MaximumQueuedRequests", "MaximumRequestBytes", "MaximumBodyBytes", "QueueTimeout",
            "RequestTimeout", "DrainDelay", "DrainTimeout", "ApiKeys", "nothing", "no key"])
        {
            Assert.Contains(sentences, sentence => sentence.Contains(option, StringComparison.Ordinal));
        }
    }

    [Fact]
    public async Task The_chat_client_of_a_model_answers_with_the_adapter_that_is_asked_for()
    {
        string path = TestAdapters.Write(_folder.File("v1"));
        await using TestService service = await NanoService.StartAsync(model => model.Adapters["v1"] = path);
        IChatClient client = service.Application.Services.GetRequiredKeyedService<IChatClient>("support");
        ChatOptions options = new() { MaxOutputTokens = 8, Temperature = 0, ModelId = "v1" };
        ChatResponse adapted = await client.GetResponseAsync("Who are you?", options);
        Assert.Equal((NanoService.Expected(path), "v1"), (adapted.Text, adapted.ModelId));
        ChatResponse plain = await client.GetResponseAsync("Who are you?", new ChatOptions { MaxOutputTokens = 8, Temperature = 0 });
        Assert.Equal((NanoService.Answer(service, "support"), "support"), (plain.Text, plain.ModelId));
        ChatResponse streamed = await client.GetStreamingResponseAsync("Who are you?", options).ToChatResponseAsync();
        Assert.Equal(adapted.Text, streamed.Text);
        options.ModelId = "v2";
        OptionException error = await Assert.ThrowsAsync<OptionException>(() => client.GetResponseAsync("Hi", options));
        Assert.Contains("support, v1", error.Message, StringComparison.Ordinal);
    }

    private static IConfiguration Configuration(Dictionary<string, string?> values) => new ConfigurationBuilder().AddInMemoryCollection(values).Build();

    private static async Task<string[]> FaultsAsync(string name, Action<ServedModelOptions> configure)
    {
        OptionsValidationException error = await Assert.ThrowsAsync<OptionsValidationException>(
            () => TestService.StartAsync(services: all => all.AddMLNetLora(name, configure)));
        return [.. error.Failures];
    }

    private sealed class SlowComponent : IServedComponent
    {
        public TaskCompletionSource Loaded { get; } = new();

        public string Name => "slow";

        public string Step => "its weights";

        public void Announce(string? before)
        {
        }

        public Task LoadAsync(CancellationToken cancellation) => Loaded.Task;

        public Task WatchAsync(CancellationToken cancellation) => Task.CompletedTask;
    }

    /// <summary>Holds up whoever looks at the clock first: the loading.</summary>
    private sealed class HeldTime(Task go) : TimeProvider
    {
        public override long GetTimestamp()
        {
            go.Wait();
            return base.GetTimestamp();
        }
    }
}
