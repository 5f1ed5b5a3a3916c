using MLNetLora.Adapters;
using MLNetLora.Artifacts;

namespace MLNetLora.Training;

/// <summary>Moves an adapter's tensors into the trainable tensors and back.</summary>
internal static class LoraParameters
{
    /// <summary>Copies them in.</summary>
    public static void Load(ParameterSet parameters, LoraAdapter adapter)
    {
        foreach (LoraFactors factors in adapter.Factors)
        {
            factors.A.CopyTo(parameters.Slice(parameters.Values, factors.Module.KeyA));
            factors.B.CopyTo(parameters.Slice(parameters.Values, factors.Module.KeyB));
        }

        foreach (SavedValues saved in adapter.Saved)
        {
            saved.Values.CopyTo(parameters.Slice(parameters.Values, saved.Tensor.Key));
        }
    }

    /// <summary>An adapter with copies of them as they are now.</summary>
    public static LoraAdapter Snapshot(ParameterSet parameters, LoraOptions options, string baseModel, TrainingTarget target)
    {
        return new(
            options,
            baseModel,
            [.. target.Loras.Select(module => new LoraFactors(module, Values(module.KeyA), Values(module.KeyB)))],
            [.. target.Saved.Select(saved => new SavedValues(saved, Values(saved.Key)))]);

        float[] Values(string name) => parameters.Slice(parameters.Values, name).ToArray();
    }
}
