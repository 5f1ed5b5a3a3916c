using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.AspNetCore;

/// <summary>A base model that is served, with its adapters.</summary>
public sealed class ServedModelOptions
{
    /// <summary>The base checkpoint: a folder, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct, or one with a revision behind @.</summary>
    public string ModelPath { get; set; } = "";

    /// <summary>Whether a hub id that the cache of this machine does not hold is downloaded into it. Default true.</summary>
    public bool DownloadModel { get; set; } = true;

    /// <summary>How the base's weights are held. Default: as the checkpoint has them.</summary>
    public WeightPrecision Precision { get; set; } = WeightPrecision.Checkpoint;

    /// <summary>Where answers are computed; in a configuration cpu, cuda or cuda:N. Default: the processor.</summary>
    public Device Device { get; set; } = Device.Cpu;

    /// <summary>Threads that answers are computed with; 0 (default) takes all cores.</summary>
    public int Threads { get; set; }

    /// <summary>Adapters that are loaded at the start and stay: under which name requests ask for each, and its PEFT folder. One that cannot be loaded ends
    /// the start.</summary>
    public IDictionary<string, string> Adapters { get; } = new Dictionary<string, string>(StringComparer.Ordinal);

    /// <summary>A folder whose folders are adapters, each under its own name: one that appears is loaded, one that is gone is unloaded, one that changes takes
    /// its own place. Names that begin with a dot are passed over. Null (default) for none.</summary>
    public string? WatchFolder { get; set; }

    /// <summary>How often the folder is looked at. What is new there is loaded when it was the same for one period. Default 2 seconds.</summary>
    public TimeSpan WatchPeriod { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>The folder inside which /v1/load_lora_adapter may load adapters; those endpoints also need <see cref="ServingOptions.AdminKeys"/>. Null
    /// (default) for none.</summary>
    public string? AdapterRoot { get; set; }

    /// <summary>
    /// The layers that adapters may be on which share the base's weights and batches, as target_modules names them, or "all-linear" alone. Fewer are faster.
    /// Empty (default): all linear layers where there is a <see cref="WatchFolder"/> or an <see cref="AdapterRoot"/>, else those of <see cref="Adapters"/>. An
    /// adapter that cannot share (another layer, DoRA, modules_to_save, trained tokens, experts) is answered with weights of its own, and the log says so.
    /// </summary>
    public IList<string> AdapterModules { get; } = [];

    /// <summary>Most bytes of keys and values of the requests that are answered at once; further ones wait. Null (default): no limit. See
    /// <see cref="EngineOptions.MaximumCacheBytes"/>.</summary>
    public long? MaximumCacheBytes { get; set; }

    /// <summary>Most bytes of keys and values of prompts that are kept for later ones which begin alike; 0 keeps nothing. Default 256 MiB. See
    /// <see cref="EngineOptions.PrefixCacheBytes"/>.</summary>
    public long PrefixCacheBytes { get; set; } = new EngineOptions().PrefixCacheBytes;

    /// <summary>Most adapters at a time, wherever they come from. Default 32.</summary>
    public int MaximumAdapters { get; set; } = 32;

    /// <summary>
    /// Most of those adapters that cannot share the base's weights (see <see cref="AdapterModules"/>) and have their own, which take as much memory as the
    /// base once more; further ones are refused, and with 0 all of them. Together they keep <see cref="PrefixCacheBytes"/> of prompts, each an equal part.
    /// Default 4.
    /// </summary>
    public int MaximumUnsharedAdapters { get; set; } = 4;

    /// <summary>How the base is opened.</summary>
    /// <param name="modules">The layers that adapters may be on which share it; null for none.</param>
    internal EngineOptions Engine(TargetModules? modules) => new()
    {
        AdapterModules = modules,
        MaximumCacheBytes = MaximumCacheBytes,
        PrefixCacheBytes = PrefixCacheBytes,
    };

    /// <summary>How the base is opened once more, for an adapter that cannot share it.</summary>
    internal EngineOptions UnsharedEngine() => new()
    {
        MaximumCacheBytes = MaximumCacheBytes,
        PrefixCacheBytes = PrefixCacheBytes / Math.Max(1, MaximumUnsharedAdapters),
    };
}
