using MLNetLora.Adapters;
using MLNetLora.Artifacts;

namespace MLNetLora.Training;

/// <summary>Moves an adapter's tensors into the trainable tensors and back.</summary>
internal static class LoraParameters
{
    /// <summary>Copies them in.</summary>
    public static void Load(ParameterSet parameters, LoraAdapter adapter)
    {
        foreach ((AdapterTensor tensor, float[] values) in adapter.Tensors)
        {
            parameters.Fill(tensor.Key, (span, _) => values.CopyTo(span));
        }
    }

    /// <summary>An adapter with copies of them as they are now.</summary>
    /// <param name="parameters">What was trained.</param>
    /// <param name="options">The adapter's shape.</param>
    /// <param name="start">What the run started from.</param>
    public static LoraAdapter Snapshot(ParameterSet parameters, LoraOptions options, LoraAdapter start)
    {
        return new LoraAdapter(
            options,
            start.BaseModel,
            [.. start.Factors.Select(factors => LoraFactors.Of(factors.Module, Values) with { Initial = factors.Initial })],
            [.. start.Saved.Select(saved => saved with { Values = Values(saved.Tensor.Key) })],
            start.Tokens is null ? null : start.Tokens with { Values = Values(start.Tokens.Tokens.Tensor.Key) })
        {
            Prompt = start.Prompt,
        };

        float[] Values(string name) => parameters.Read(parameters.Values, name).ToArray();
    }
}
