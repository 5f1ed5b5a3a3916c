using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Inference;

/// <summary>What every step of a generation runs: the graph of <see cref="InferenceModel"/> in a session, and what is the same for all of them.</summary>
/// <param name="Session">The graph.</param>
/// <param name="Factors">The adapter's factors by their input's name.</param>
/// <param name="Config">The model.</param>
/// <param name="States">What is kept of the tokens so far.</param>
/// <param name="Device">The memory of the device that the session runs on; null for the process's.</param>
/// <param name="CacheType">Type of keys and values.</param>
/// <param name="Adapters">The adapters that rows may have each of their own; null where the graph has none such.</param>
internal sealed record StepGraph(
    OnnxSession Session,
    IReadOnlyDictionary<string, NativeTensor> Factors,
    QwenConfig Config,
    IReadOnlyList<CacheState> States,
    DeviceMemory? Device,
    ElementType CacheType,
    AdapterStack? Adapters = null);
