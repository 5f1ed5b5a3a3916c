using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>What config.json says of a mixture of experts, under the field's names.</summary>
/// <param name="Count">num_experts (newer files of Qwen3: num_local_experts).</param>
/// <param name="PerToken">num_experts_per_tok; at most <paramref name="Count"/>.</param>
/// <param name="IntermediateSize">moe_intermediate_size: outputs of an expert's gate.</param>
/// <param name="NormalizeTopK">norm_topk_prob: the weights of a token's experts sum up to one; false where the file says nothing.</param>
/// <param name="IsSparse">For each layer whether it has experts, or an MLP of intermediate_size: from decoder_sparse_step and mlp_only_layers.</param>
internal sealed record ExpertConfig(int Count, int PerToken, int IntermediateSize, bool NormalizeTopK, IReadOnlyList<bool> IsSparse)
{
    private const int MostLayers = 10_000;
    private const int MostInAll = 1 << 20; // experts of all layers; Qwen's largest mixture has 94 times 128

    /// <summary>shared_expert_intermediate_size: outputs of the gate of the expert that every token has; 0 for none.</summary>
    public int SharedIntermediateSize { get; init; }

    /// <summary>router_aux_loss_coef where output_router_logits is true, else 0: what training in transformers adds of the loss that balances
    /// experts.</summary>
    public double AuxiliaryLoss { get; init; }

    /// <summary>Reads the fields that the families share.</summary>
    /// <param name="file">config.json.</param>
    /// <param name="layers">num_hidden_layers.</param>
    /// <exception cref="CheckpointException">A field is missing or impossible.</exception>
    public static ExpertConfig Read(ConfigFile file, int layers)
    {
        const int Most = 1 << 16;
        int? named = file.OptionalInt("num_experts", Most);
        int count = file.OptionalInt("num_local_experts", Most) ?? named ?? file.Int("num_experts", Most);
        file.Require((named ?? count) == count, "num_experts", $"num_local_experts, {count}");
        file.Require((long)count * layers <= MostInAll, named is null ? "num_local_experts" : "num_experts",
            FormattableString.Invariant($"at most {MostInAll / layers} with {layers} layers"));
        int perToken = file.Int("num_experts_per_tok", Most);
        file.Require(perToken <= count, "num_experts_per_tok", $"at most the number of experts, {count}");
        int step = file.OptionalInt("decoder_sparse_step", MostLayers) ?? 1;
        HashSet<int> dense = DenseLayers(file);
        double auxiliary = file.Number("router_aux_loss_coef", number => number is >= 0 and <= 1e6, "a number from 0 to 1e6") ?? 0.001;
        return new ExpertConfig(
            count, perToken, file.Int("moe_intermediate_size", 1 << 20), file.Flag("norm_topk_prob"),
            [.. Enumerable.Range(0, layers).Select(layer => !dense.Contains(layer) && (layer + 1) % step == 0)])
        {
            AuxiliaryLoss = file.Flag("output_router_logits") ? auxiliary : 0,
        };
    }

    private static HashSet<int> DenseLayers(ConfigFile file)
    {
        const string Field = "mlp_only_layers";
        if (file.Value(Field) is not { } list)
        {
            return [];
        }

        JsonElement[] items = list.ValueKind == JsonValueKind.Array && list.GetArrayLength() <= MostLayers ? [.. list.EnumerateArray()] : [];
        HashSet<int> layers = [];
        bool isList = list.ValueKind == JsonValueKind.Array && items.Length == list.GetArrayLength() && items.All(
            item => item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out int layer) && layer is >= 0 and < MostLayers && (layers.Add(layer) || true));
        file.Require(isList, Field, $"a list of numbers of layers, each from 0 to {MostLayers - 1}");
        return layers;
    }
}
