using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.TextGeneration;

namespace MLNetLora.AspNetCore;

/// <summary>A base model from its loading to the end of the service.</summary>
/// <param name="name">Its name.</param>
/// <param name="options">What is served.</param>
/// <param name="services">Where it is published, counted and logged.</param>
internal sealed class ModelHost(string name, ServedModelOptions options, HostServices services) : IServedComponent
{
    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private AdapterWatcher? _watcher;

    /// <summary>Its name.</summary>
    public string Name => name;

    /// <summary>Where requests may load adapters from; null for nowhere.</summary>
    public string? AdapterRoot => options.AdapterRoot;

    /// <summary>Its adapters; null while it is being loaded.</summary>
    public AdapterSet? Adapters { get; private set; }

    /// <summary>Ends when the model and the adapters of its options answer, or with the reason why they do not.</summary>
    public Task Ready => _ready.Task;

    /// <inheritdoc/>
    public string Step { get; private set; } = "";

    /// <inheritdoc/>
    public void Announce(string? before) =>
        Begin(before is null ? "the model is being loaded" : $"the model is loaded when {before} has been");

    /// <summary>Loads the model, its adapters, and what lies in the watched folder.</summary>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    /// <exception cref="MLNetLoraException">The model, or an adapter of the options, cannot be served.</exception>
    [SuppressMessage("Reliability", "CA2000:Dispose objects before losing scope", Justification = "The registry's to dispose.")]
    public async Task LoadAsync(CancellationToken cancellation)
    {
        long start = services.Time.GetTimestamp();
        try
        {
            HostLog.Loading(services.Log, name, options.ModelPath);
            Begin("the model is being loaded: its files are looked for");
            string folder = options.DownloadModel
                ? await ModelFolder.FindOrDownloadAsync(options.ModelPath, null, Progress(), cancellation).ConfigureAwait(false)
                : ModelFolder.Find(options.ModelPath);
            Checkpoint checkpoint = Checkpoint.Open(folder);
            Begin("the model is being loaded: its weights");
            TextGenerator generator = OpenBase(checkpoint, cancellation);
            services.Registry.Set(new ServedModel(name, null, services.Time.GetUtcNow()), generator);
            Adapters = new AdapterSet(name, checkpoint, (adapter, loaded) => Attach(generator, checkpoint, adapter, loaded), options.MaximumAdapters, services);
            foreach ((string adapter, string path) in options.Adapters)
            {
                Begin($"the model is being loaded: adapter {adapter}");
                if (await Adapters.LoadAsync(adapter, path, AdapterSource.Options, mayReplace: false, null, cancellation).ConfigureAwait(false) is { } refusal)
                {
                    throw new AdapterException($"The adapter '{adapter}' of the options cannot be served: {refusal.Error.Message}");
                }
            }

            if (options.WatchFolder is { } watched)
            {
                Begin("the model is being loaded: the adapters of the watched folder");
                _watcher = new AdapterWatcher(name, watched, Adapters, services);
                await _watcher.LookAsync(cancellation).ConfigureAwait(false);
                if (_watcher.IsWaiting) // what lies there at the start is served from the start
                {
                    await Task.Delay(options.WatchPeriod, services.Time, cancellation).ConfigureAwait(false);
                    await _watcher.LookAsync(cancellation).ConfigureAwait(false);
                }
            }

            services.State.Clear(name);
            _ready.TrySetResult();
            HostLog.Ready(services.Log, name, Math.Round(services.Time.GetElapsedTime(start).TotalSeconds, 1));
        }
        catch (Exception e)
        {
            _ready.TrySetException(e);
            _ = _ready.Task.Exception; // who waits for it hears of it; else the log does
            throw;
        }
    }

    /// <summary>Looks at the watched folder until it is cancelled; ends at once where there is none.</summary>
    [SuppressMessage("Design", "CA1031:Do not catch general exception types", Justification = "The models that are loaded are served on.")]
    public async Task WatchAsync(CancellationToken cancellation)
    {
        if (_watcher is null)
        {
            return;
        }

        using PeriodicTimer timer = new(options.WatchPeriod, services.Time);
        while (await timer.WaitForNextTickAsync(cancellation).ConfigureAwait(false))
        {
            try
            {
                await _watcher.LookAsync(cancellation).ConfigureAwait(false);
            }
            catch (Exception e) when (!cancellation.IsCancellationRequested)
            {
                HostLog.WatchFailed(services.Log, e, options.WatchFolder!);
            }
        }
    }

    private void Begin(string step)
    {
        Step = step;
        services.State.Report(new ServingIssue(name, step, IsMissing: true));
    }

    private TextGenerator OpenBase(Checkpoint checkpoint, CancellationToken cancellation)
    {
        TextGenerator generator = Open(checkpoint, null, options.Engine(Modules(checkpoint)), cancellation);
        try
        {
            WarmUp.Answer(generator, cancellation);
            return generator;
        }
        catch
        {
            generator.Dispose();
            throw;
        }
    }

    /// <summary>The layers that adapters may be on which share the base's weights; null for none.</summary>
    private TargetModules? Modules(Checkpoint checkpoint)
    {
        if (options.AdapterModules.Count > 0)
        {
            return options.AdapterModules is [TargetModules.AllLinear] ? TargetModules.AllLinear : options.AdapterModules.ToArray();
        }

        if (options.WatchFolder is not null || options.AdapterRoot is not null)
        {
            return TargetModules.AllLinear;
        }

        LoraAdapter[] sharing = [.. options.Adapters.Values.Select(path => LoraAdapter.LoadPeft(path, checkpoint)).Where(MayShare)];
        return sharing.Length > 0 ? EngineOptions.ModulesOf(sharing) : null;

        static bool MayShare(LoraAdapter adapter) =>
            adapter.Saved.Count == 0 && adapter.Tokens is null && adapter.Factors.All(factors => factors.Module is { Parameter: null, UseDora: false });
    }

    /// <summary>What answers with an adapter: in the base's batches, or with weights of its own where the adapter cannot be there.</summary>
    private TextGenerator Attach(TextGenerator generator, Checkpoint checkpoint, string adapter, LoraAdapter loaded)
    {
        loaded.RequireFit(checkpoint);
        try
        {
            return generator.Attach(loaded);
        }
        catch (AdapterException e)
        {
            int others = services.Registry.OfEngines((model, _) => model.Parent == name && model.Name != adapter).Count(isOther => isOther);
            if (others >= options.MaximumUnsharedAdapters)
            {
                int most = options.MaximumUnsharedAdapters;
                string message = $"{e.Message} {others} such adapters are loaded, and {nameof(options.MaximumUnsharedAdapters)} is {most}.";
                throw new UnsharedAdapterException(message, mayPass: most > 0);
            }

            HostLog.NotShared(services.Log, adapter, name, e.Message);
            return Open(checkpoint, loaded, options.UnsharedEngine(), CancellationToken.None);
        }
    }

    private TextGenerator Open(Checkpoint checkpoint, LoraAdapter? adapter, EngineOptions engine, CancellationToken cancellation) =>
        new(checkpoint, adapter, prompt: null, options.Threads, options.Precision, options.Device, engine, cancellation);

    private ModelDownload.Log Progress() => new(options.ModelPath, line => HostLog.Progress(services.Log, name, line), services.Time);
}
