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

    /// <summary>Most adapters at a time, wherever they come from. Default 32.</summary>
    public int MaximumAdapters { get; set; } = 32;
}
