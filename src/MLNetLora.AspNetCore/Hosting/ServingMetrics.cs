using System.Diagnostics;
using System.Diagnostics.Metrics;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore;

/// <summary>What is measured: OpenTelemetry's names for servers of generative models where there are some, and ours, with the meanings of vLLM's.</summary>
internal sealed class ServingMetrics
{
    /// <summary>Name of the meter and of the source of traces.</summary>
    public const string Name = "MLNetLora.Serving";

    /// <summary>gen_ai.provider.name of everything here.</summary>
    public const string Provider = "mlnetlora";

    // The boundaries that OpenTelemetry's conventions advise.
    private static readonly double[] s_duration = [.. Enumerable.Range(0, 14).Select(i => 0.01 * Math.Pow(2, i))];
    private static readonly double[] s_firstToken = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
    private static readonly double[] s_perToken = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];
    private static readonly int[] s_tokens = [.. Enumerable.Range(0, 14).Select(i => 1 << (2 * i))];

    private readonly Histogram<double> _duration;
    private readonly Histogram<double> _firstToken;
    private readonly Histogram<double> _perToken;
    private readonly Histogram<int> _usage;
    private readonly Histogram<double> _queue;
    private readonly Counter<long> _finished;
    private readonly Counter<long> _refused;
    private readonly Counter<long> _promptTokens;
    private readonly Counter<long> _newTokens;
    private readonly Counter<long> _prefixQueries;
    private readonly Counter<long> _prefixHits;
    private readonly Counter<long> _adapterLoads;
    private readonly Counter<long> _adapterFailures;
    private readonly Counter<long> _fileLoads;

    /// <summary>Makes the instruments.</summary>
    /// <param name="meters">What makes the meter.</param>
    /// <param name="gate">Whose requests are counted.</param>
    /// <param name="bodies">Whose bodies are counted.</param>
    /// <param name="registry">Whose models are counted.</param>
    public ServingMetrics(IMeterFactory meters, RequestGate gate, BodyMemory bodies, ModelRegistry registry)
    {
        Meter meter = meters.Create(Name);
        _duration = Seconds(meter, "gen_ai.server.request.duration", "From the request's arrival to the end of its answer.", s_duration);
        _firstToken = Seconds(meter, "gen_ai.server.time_to_first_token", "From the request's arrival to the first piece of its answer.", s_firstToken);
        _perToken = Seconds(meter, "gen_ai.server.time_per_output_token", "Between tokens after the first, on average in each answer.", s_perToken);
        _usage = meter.CreateHistogram(
            "gen_ai.client.token.usage", "{token}", "Tokens of prompts (input) and answers (output).", tags: null,
            new InstrumentAdvice<int> { HistogramBucketBoundaries = s_tokens });
        _queue = Seconds(meter, "mlnetlora.request.queue.duration", "How long requests waited for their turn.", s_firstToken);
        _finished = meter.CreateCounter<long>("mlnetlora.requests.finished", "{request}", "Answers that ended, by reason.");
        _refused = meter.CreateCounter<long>("mlnetlora.requests.refused", "{request}", "Requests that were not taken, by reason.");
        _promptTokens = meter.CreateCounter<long>("mlnetlora.prompt.tokens", "{token}", "Tokens of prompts.");
        _newTokens = meter.CreateCounter<long>("mlnetlora.generation.tokens", "{token}", "Tokens of answers.");
        _prefixQueries = meter.CreateCounter<long>("mlnetlora.prefix_cache.queries", "{token}", "Tokens of prompts that were looked up in the prefix cache.");
        _prefixHits = meter.CreateCounter<long>("mlnetlora.prefix_cache.hits", "{token}", "Tokens of prompts that the prefix cache had.");
        _adapterLoads = meter.CreateCounter<long>("mlnetlora.adapters.loads", "{adapter}", "Adapters that were loaded, or put in the place of another.");
        _adapterFailures = meter.CreateCounter<long>("mlnetlora.adapters.failures", "{adapter}", "Adapters that were refused.");
        _fileLoads = meter.CreateCounter<long>("mlnetlora.model_file.loads", "{model}", "Model zips that were loaded or refused, by outcome.");
        meter.CreateObservableGauge("mlnetlora.requests.receiving", () => bodies.Arriving, "{request}", "Requests whose bodies are on their way.");
        meter.CreateObservableGauge("mlnetlora.requests.running", () => gate.Running, "{request}", "Requests that are being answered.");
        meter.CreateObservableGauge("mlnetlora.requests.waiting", () => gate.Waiting, "{request}", "Requests that wait for their turn.");
        meter.CreateObservableGauge("mlnetlora.models.loaded", () => Count(registry, adapters: false), "{model}", "Base models that are served.");
        meter.CreateObservableGauge("mlnetlora.adapters.loaded", () => Count(registry, adapters: true), "{adapter}", "Adapters that are served.");
        AddEngines(meter, registry);
    }

    /// <summary>Traces: an activity for each request that is answered.</summary>
    public static ActivitySource Traces { get; } = new(Name);

    /// <summary>A request was not taken.</summary>
    /// <param name="reason">A word: the error's code.</param>
    public void Refused(string reason) => _refused.Add(1, new KeyValuePair<string, object?>("reason", reason));

    /// <summary>A request got its turn.</summary>
    public void Waited(TimeSpan time) => _queue.Record(time.TotalSeconds);

    /// <summary>An adapter was loaded.</summary>
    public void AdapterLoaded(string name) => _adapterLoads.Add(1, Model(name));

    /// <summary>An adapter was refused. Its name may be anybody's, and is no tag.</summary>
    public void AdapterFailed(string baseName) => _adapterFailures.Add(1, Model(baseName));

    /// <summary>A model zip was loaded or refused.</summary>
    public void FileLoaded(string name, bool wasGood) =>
        _fileLoads.Add(1, Model(name), new KeyValuePair<string, object?>("outcome", wasGood ? "loaded" : "refused"));

    /// <summary>A request has ended.</summary>
    /// <param name="record">What there is to say about it.</param>
    public void Ended(RequestRecord record)
    {
        TagList tags = new()
        {
            { "gen_ai.operation.name", record.Operation },
            { "gen_ai.provider.name", Provider },
            { "gen_ai.request.model", record.Model },
        };
        KeyValuePair<string, object?> model = Model(record.Model);
        foreach (string reason in record.Reasons)
        {
            _finished.Add(1, model, new KeyValuePair<string, object?>("reason", reason));
        }

        if (record.PromptTokens + record.NewTokens > 0)
        {
            _promptTokens.Add(record.PromptTokens, model);
            _newTokens.Add(record.NewTokens, model);
            _prefixQueries.Add(record.PromptTokens, model);
            _prefixHits.Add(record.CachedPromptTokens, model);
            TagList type = tags;
            type.Add("gen_ai.token.type", "input");
            _usage.Record(record.PromptTokens, type);
            type = tags;
            type.Add("gen_ai.token.type", "output");
            _usage.Record(record.NewTokens, type);
        }

        if (record.FirstToken is { } first)
        {
            _firstToken.Record(first.TotalSeconds, tags);
            if (record.NewTokens > 1)
            {
                _perToken.Record((record.Duration - first).TotalSeconds / (record.NewTokens - 1), tags);
            }
        }

        if (record.Error is { } error)
        {
            tags.Add("error.type", error);
        }

        _duration.Record(record.Duration.TotalSeconds, tags);
    }

    private static void AddEngines(Meter meter, ModelRegistry registry)
    {
        Add("mlnetlora.engine.running", "{answer}", "Answers whose prompts are read, or that are written.", model => model.Use.Rows);
        Add("mlnetlora.engine.waiting", "{answer}", "Answers that wait for memory, or for prompts that are read before.", model => model.Use.Waiting);
        Add("mlnetlora.kv_cache.tokens", "{token}", "Tokens whose keys and values are held for them.", model => model.Use.Tokens);
        Add("mlnetlora.kv_cache.usage", "By", "Memory for keys and values of answers.", model => model.Use.Bytes);
        Add("mlnetlora.kv_cache.reserved", "By", "What they may come to take with the longest answers.", model => model.Use.ReservedBytes);
        Add("mlnetlora.kv_cache.limit", "By", "Most that they may come to take, where there is a limit.", model => model.MaximumCacheBytes);
        Add("mlnetlora.prefix_cache.usage", "By", "Memory for keys and values that are kept of prompts.", model => model.Use.PrefixBytes);
        Add("mlnetlora.prefix_cache.limit", "By", "Most memory for keys and values that are kept of prompts.", model => model.Prefixes.Limit);

        void Add(string name, string unit, string description, Func<CausalLanguageModel, long?> read) => meter.CreateObservableGauge(
            name,
            () => registry.OfEngines((model, generator) => (model.Name, Value: read(generator.Model)))
                .Where(engine => engine.Value is not null)
                .Select(engine => new Measurement<long>(engine.Value!.Value, Model(engine.Name))),
            unit,
            description);
    }

    private static KeyValuePair<string, object?> Model(string name) => new("model", name);

    private static int Count(ModelRegistry registry, bool adapters) => registry.Models.Count(model => model.Parent is not null == adapters);

    private static Histogram<double> Seconds(Meter meter, string name, string description, double[] boundaries) =>
        meter.CreateHistogram(name, "s", description, tags: null, new InstrumentAdvice<double> { HistogramBucketBoundaries = boundaries });
}

/// <summary>What there is to say about a request that has ended.</summary>
/// <param name="Operation">chat, text_completion, …: OpenTelemetry's name of the operation.</param>
/// <param name="Model">The model that answered, or would have.</param>
/// <param name="Duration">From its arrival to its end.</param>
/// <param name="FirstToken">From its arrival to the first piece of an answer; null where there was none.</param>
/// <param name="Reasons">Why each of its answers ended.</param>
/// <param name="PromptTokens">Tokens of its prompts.</param>
/// <param name="NewTokens">Tokens of its answers.</param>
/// <param name="CachedPromptTokens">Tokens of its prompts that the prefix cache had.</param>
/// <param name="Error">A word for what went wrong; null where nothing did.</param>
internal sealed record RequestRecord(
    string Operation,
    string Model,
    TimeSpan Duration,
    TimeSpan? FirstToken,
    IReadOnlyList<string> Reasons,
    int PromptTokens,
    int NewTokens,
    int CachedPromptTokens,
    string? Error);
