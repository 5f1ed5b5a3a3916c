using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using MLNetLora.Inference;
using MLNetLora.Models;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>What a service measures.</summary>
public sealed class ServingMetricsTests
{
    [Fact]
    public async Task An_answer_is_measured_under_opentelemetrys_names()
    {
        ConcurrentQueue<Activity> traces = [];
        using ActivityListener listener = new()
        {
            ShouldListenTo = source => source.Name == ServingMetrics.Name,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = traces.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        await using TestService service = await TestService.StartAsync(endpoint: async context =>
        {
            ServingRequest request = context.Serving();
            request.Asked("chat", "metrics-test");
            request.Progress();
            await Task.Delay(20);
            request.Progress();
            request.Used(10, 5, cachedPromptTokens: 4);
            request.Finished("stop");
        });
        using Measurements all = new(service);
        await service.GetAsync("/generate");
        await TestService.UntilAsync(() => all.Of("gen_ai.server.request.duration").Count > 0);

        string[] common = ["gen_ai.operation.name=chat", "gen_ai.provider.name=mlnetlora", "gen_ai.request.model=metrics-test"];
        (double duration, string[] tags) = Assert.Single(all.Of("gen_ai.server.request.duration"));
        Assert.Equal(common, tags);
        (double first, tags) = Assert.Single(all.Of("gen_ai.server.time_to_first_token"));
        Assert.Equal(common, tags);
        double perToken = Assert.Single(all.Of("gen_ai.server.time_per_output_token")).Value;
        Assert.True(first < duration && perToken is > 0.002 and < 10, $"{first} {duration} {perToken}");
        Assert.Equal(
            [(5, "gen_ai.token.type=output"), (10, "gen_ai.token.type=input")],
            all.Of("gen_ai.client.token.usage")
                .Select(value => (value.Value, value.Tags.Single(tag => tag.Contains(".type=", StringComparison.Ordinal)))).Order());
        Assert.Equal(10, Assert.Single(all.Of("mlnetlora.prompt.tokens")).Value);
        Assert.Equal(5, Assert.Single(all.Of("mlnetlora.generation.tokens")).Value);
        Assert.Equal(10, Assert.Single(all.Of("mlnetlora.prefix_cache.queries")).Value);
        Assert.Equal(4, Assert.Single(all.Of("mlnetlora.prefix_cache.hits")).Value);
        Assert.Equal(["model=metrics-test", "reason=stop"], Assert.Single(all.Of("mlnetlora.requests.finished")).Tags);
        Assert.Single(all.Of("mlnetlora.request.queue.duration"));

        Activity trace = Assert.Single(traces, trace => trace.DisplayName == "chat metrics-test");
        Assert.Equal(5, trace.GetTagItem("gen_ai.usage.output_tokens"));
        Assert.Equal(["stop"], Assert.IsType<string[]>(trace.GetTagItem("gen_ai.response.finish_reasons")));
    }

    [Fact]
    public async Task Errors_refusals_and_clients_that_left_are_told_apart()
    {
        await using TestService service = await TestService.StartAsync(
            options =>
            {
                options.ApiKeys.Add("key");
                options.RequestTimeout = TimeSpan.FromSeconds(60);
            },
            context =>
            {
                context.Serving().Asked("chat", "m");
                return context.Request.QueryString.Value switch
                {
                    "?fail" => throw new InvalidOperationException("x"),
                    "?bad" => ServingError.Invalid("x").WriteAsync(context),
                    _ => Task.Delay(Timeout.Infinite, context.RequestAborted),
                };
            });
        using Measurements all = new(service);
        await service.GetAsync("/generate");
        await service.GetAsync("/generate?fail", "Bearer key");
        await service.GetAsync("/generate?bad", "Bearer key");
        using CancellationTokenSource gone = new();
        Task<HttpResponseMessage> leaving = service.GetAsync("/generate?wait", "Bearer key", cancellation: gone.Token);
        await TestService.UntilAsync(() => service.Gate.Running == 1);
        all.Observe();
        Assert.Equal(1, all.Of("mlnetlora.requests.running")[^1].Value);
        await gone.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => leaving);
        await TestService.UntilAsync(() => all.Of("gen_ai.server.request.duration").Count == 3);

        Assert.Equal(["reason=invalid_api_key"], Assert.Single(all.Of("mlnetlora.requests.refused")).Tags);
        Assert.Equal(
            ["error.type=400", "error.type=cancelled", "error.type=internal_error"],
            all.Of("gen_ai.server.request.duration").Select(value => value.Tags.Single(tag => tag.StartsWith("error", StringComparison.Ordinal))).Order());
        Assert.Equal(
            ["reason=cancelled", "reason=error", "reason=internal_error"],
            all.Of("mlnetlora.requests.finished").Select(value => value.Tags.Single(tag => tag.StartsWith("reason", StringComparison.Ordinal))).Order());
        all.Observe();
        Assert.Equal(0, all.Of("mlnetlora.requests.running")[^1].Value);
        Assert.Equal(0, all.Of("mlnetlora.requests.waiting")[^1].Value);
    }

    [Fact]
    public async Task Models_and_adapters_are_counted()
    {
        using MLNetLora.Tests.TemporaryFolder folder = new();
        await using TestService service = await NanoService.StartAsync();
        using Measurements all = new(service);
        AdapterSet adapters = service.Get<ServingHost>().Models[0].Adapters!;
        string good = TestAdapters.Write(folder.File("good"));
        Assert.Null(await adapters.LoadAsync("v1", good, AdapterSource.Request, false, null, CancellationToken.None));
        Assert.NotNull(await adapters.LoadAsync("v2", folder.Path, AdapterSource.Request, false, null, CancellationToken.None));
        all.Observe();
        Assert.Equal(1, all.Of("mlnetlora.models.loaded")[^1].Value);
        Assert.Equal(1, all.Of("mlnetlora.adapters.loaded")[^1].Value);
        Assert.Equal(["model=v1"], Assert.Single(all.Of("mlnetlora.adapters.loads")).Tags);
        Assert.Equal(["model=support"], Assert.Single(all.Of("mlnetlora.adapters.failures")).Tags);
    }

    [Fact]
    public async Task What_keys_and_values_take_is_measured_while_answers_are_written()
    {
        QwenConfig nano = Checkpoint.Open(MLNetLora.Tests.Repository.Nano).Config;
        await using TestService service = await NanoService.StartAsync(model =>
        {
            model.MaximumCacheBytes = Bytes(800); // for one of two, which may fill the context of 512
            model.PrefixCacheBytes = 1 << 20;
        });
        using Measurements all = new(service);
        using ModelLease lease = service.Get<ModelRegistry>().Lease("support")!;
        CausalLanguageModel engine = lease.Generator.Model;
        GenerationOptions options = engine.Prepare(new GenerationOptions { MaximumNewTokens = 1000, Temperature = 0, IgnoreEndOfText = true });
        using CancellationTokenSource enough = new();
        using ManualResetEventSlim isHeld = new();
        using ManualResetEventSlim go = new();
        int tokens = 0;
        GenerationRequest[] requests = [.. new[] { 100, 5 }.Select(length => engine.Begin(
            [.. Enumerable.Range(10, length)], options, Hold, 0, enough.Token))];
        isHeld.Wait();
        all.Observe();
        await enough.CancelAsync();
        go.Set();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Task.WhenAll(requests.Select(request => request.Answer)));
        Assert.Equal((1, 1), (Last("engine.running"), Last("engine.waiting")));
        Assert.Equal(101, Last("kv_cache.tokens")); // when the last step began
        Assert.InRange(Last("kv_cache.usage"), Bytes(102), Bytes(300));
        Assert.Equal(Bytes(nano.ContextLength), Last("kv_cache.reserved"));
        Assert.Equal((Bytes(800), 1 << 20), (Last("kv_cache.limit"), Last("prefix_cache.limit")));
        Assert.Equal(["model=support"], all.Of("mlnetlora.engine.running")[^1].Tags);
        await TestService.UntilAsync(() =>
        {
            all.Observe();
            return Last("engine.running") + Last("engine.waiting") + Last("kv_cache.tokens") + Last("kv_cache.usage") + Last("kv_cache.reserved") == 0;
        });
        Assert.InRange(Last("prefix_cache.usage"), Bytes(64), 1 << 20);

        long Bytes(int count) => 2L * nano.NumHiddenLayers * nano.NumKeyValueHeads * nano.HeadDim * sizeof(float) * count;

        bool Hold(ChosenToken token) // on the engine's thread
        {
            if (++tokens == 3)
            {
                isHeld.Set();
                go.Wait();
            }

            return false;
        }

        double Last(string name) => all.Of($"mlnetlora.{name}")[^1].Value;
    }

    [Fact]
    public async Task A_limit_that_there_is_not_is_not_measured_and_an_adapter_with_weights_of_its_own_is()
    {
        using MLNetLora.Tests.TemporaryFolder folder = new();
        string dora = TestAdapters.Write(folder.File("dora"), dora: true);
        string plain = TestAdapters.Write(folder.File("plain"));
        await using TestService service = await NanoService.StartAsync(model => (model.Adapters["dora"], model.Adapters["plain"]) = (dora, plain));
        using Measurements all = new(service);
        all.Observe();
        Assert.Empty(all.Of("mlnetlora.kv_cache.limit"));
        Assert.Equal(
            [("model=dora", 64 << 20), ("model=support", 256 << 20)],
            all.Of("mlnetlora.prefix_cache.limit").Select(value => (value.Tags.Single(), (int)value.Value)).Order());
    }

    /// <summary>What the meter of one service says.</summary>
    private sealed class Measurements : IDisposable
    {
        private readonly MeterListener _listener = new();
        private readonly ConcurrentQueue<(string Name, double Value, string[] Tags)> _all = new();

        public Measurements(TestService service)
        {
            IMeterFactory factory = service.Application.Services.GetRequiredService<IMeterFactory>();
            service.Get<ServingMetrics>();
            _listener.InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Meter.Name == ServingMetrics.Name && ReferenceEquals(instrument.Meter.Scope, factory))
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            };
            _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Add(instrument, value, tags));
            _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Add(instrument, value, tags));
            _listener.SetMeasurementEventCallback<int>((instrument, value, tags, _) => Add(instrument, value, tags));
            _listener.Start();
        }

        public void Observe() => _listener.RecordObservableInstruments();

        public IReadOnlyList<(double Value, string[] Tags)> Of(string name) =>
            [.. _all.Where(value => value.Name == name).Select(value => (value.Value, value.Tags))];

        public void Dispose() => _listener.Dispose();

        private void Add(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags) =>
            _all.Enqueue((instrument.Name, value, [.. tags.ToArray().Select(tag => $"{tag.Key}={tag.Value}").Order(StringComparer.Ordinal)]));
    }
}
