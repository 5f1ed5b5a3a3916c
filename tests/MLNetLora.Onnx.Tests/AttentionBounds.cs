using MLNetLora.Onnx.Differentiable;

namespace MLNetLora.Onnx.Tests;

/// <summary>What a graph with masks in chunks is given beside its first keys.</summary>
internal static class AttentionBounds
{
    private const string Start = ".start.";

    /// <summary>The inputs and those bounds that the graph asks for.</summary>
    /// <param name="inputs">Inputs, the first keys among them.</param>
    /// <param name="names">What the graph asks for.</param>
    public static IReadOnlyDictionary<string, Data> Add(IReadOnlyDictionary<string, Data> inputs, string[] names)
    {
        Dictionary<string, Data> all = new(inputs);
        foreach (IGrouping<string, string> mask in names
            .Where(name => name.Contains(Start, StringComparison.Ordinal))
            .GroupBy(name => name[..name.IndexOf(Start, StringComparison.Ordinal)]))
        {
            Data firsts = inputs[mask.Key];
            foreach ((string name, long[] values) in CausalMask.Bounds(
                mask.Key, [.. firsts.Values.Select(value => (long)value)], (int)firsts.Shape[0], mask.Count() + 1))
            {
                all[name] = new Data([.. values.Select(value => (float)value)], [values.Length], ElementType.Int64);
            }
        }

        return all;
    }
}
