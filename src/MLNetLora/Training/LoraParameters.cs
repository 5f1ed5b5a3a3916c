using MLNetLora.Adapters;

namespace MLNetLora.Training;

/// <summary>Moves an adapter's factors into the trainable tensors and back.</summary>
internal static class LoraParameters
{
    /// <summary>Copies the factors in.</summary>
    public static void Load(ParameterSet parameters, LoraAdapter adapter)
    {
        foreach (LoraFactors factors in adapter.Factors)
        {
            factors.A.CopyTo(parameters.Slice(parameters.Values, factors.Module.KeyA));
            factors.B.CopyTo(parameters.Slice(parameters.Values, factors.Module.KeyB));
        }
    }

    /// <summary>An adapter with copies of the factors as they are now.</summary>
    public static LoraAdapter Snapshot(ParameterSet parameters, LoraOptions options, string baseModel, IReadOnlyList<LoraModule> modules) =>
        new(options, baseModel, [.. modules.Select(module => new LoraFactors(module,
            parameters.Slice(parameters.Values, module.KeyA).ToArray(), parameters.Slice(parameters.Values, module.KeyB).ToArray()))]);
}
