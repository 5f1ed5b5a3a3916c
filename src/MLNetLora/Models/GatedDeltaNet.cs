using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>The sizes of gated DeltaNet layers (Yang et al. 2024, arXiv:2412.06464), and which layers are of that kind.</summary>
/// <param name="KeyHeads">linear_num_key_heads.</param>
/// <param name="KeyDim">linear_key_head_dim.</param>
/// <param name="ValueHeads">linear_num_value_heads, a multiple of <paramref name="KeyHeads"/>.</param>
/// <param name="ValueDim">linear_value_head_dim.</param>
/// <param name="Taps">linear_conv_kernel_dim: tokens that the convolution reads, the current one included.</param>
/// <param name="Layers">layer_types: for each layer whether it is one; the others have attention.</param>
internal sealed record GatedDeltaNet(int KeyHeads, int KeyDim, int ValueHeads, int ValueDim, int Taps, IReadOnlyList<bool> Layers)
{
    private const string Linear = "linear_attention";
    private const string Full = "full_attention";

    /// <summary>Numbers of all queries, and of all keys.</summary>
    public int Keys => KeyHeads * KeyDim;

    /// <summary>Numbers of all values.</summary>
    public int Values => ValueHeads * ValueDim;

    /// <summary>Channels of the convolution: queries, keys and values.</summary>
    public int Channels => (2 * Keys) + Values;

    /// <summary>Reads config.json; what it does not say is as in transformers.</summary>
    /// <param name="file">The model's fields.</param>
    /// <param name="layers">num_hidden_layers.</param>
    /// <exception cref="CheckpointException">A field is impossible.</exception>
    public static GatedDeltaNet Read(ConfigFile file, int layers)
    {
        int keyHeads = file.OptionalInt("linear_num_key_heads", 1024) ?? 16;
        int valueHeads = file.OptionalInt("linear_num_value_heads", 1024) ?? 32;
        file.Require(valueHeads % keyHeads == 0, "linear_num_value_heads", $"a multiple of linear_num_key_heads, {keyHeads}");
        return new GatedDeltaNet(
            keyHeads,
            file.OptionalInt("linear_key_head_dim", 1024) ?? 128,
            valueHeads,
            file.OptionalInt("linear_value_head_dim", 1024) ?? 128,
            file.OptionalInt("linear_conv_kernel_dim", 64, minimum: 2) ?? 4,
            Kinds(file, layers));
    }

    private static bool[] Kinds(ConfigFile file, int layers)
    {
        if (file.Texts("layer_types", 10_000) is not { } types)
        {
            int interval = file.OptionalInt("full_attention_interval", int.MaxValue) ?? 4;
            return [.. Enumerable.Range(1, layers).Select(number => number % interval != 0)];
        }

        file.Require(
            types.Count == layers && types.All(type => type is Linear or Full),
            "layer_types",
            $"a list of {Linear} and {Full}, one for each of the {layers} layers of num_hidden_layers");
        return [.. types.Select(type => type == Linear)];
    }
}
