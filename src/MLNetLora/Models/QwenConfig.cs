using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>What config.json says of a model, under the field's names.</summary>
internal sealed record QwenConfig
{
    /// <summary>Name of the file in a checkpoint folder.</summary>
    public const string FileName = "config.json";

    /// <summary>model_type: qwen, qwen2, qwen3, ….</summary>
    public required string ModelType { get; init; }

    /// <summary>hidden_size.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>intermediate_size: outputs of the MLP's gate (in Qwen1's file twice that).</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>num_hidden_layers.</summary>
    public required int NumHiddenLayers { get; init; }

    /// <summary>num_attention_heads.</summary>
    public required int NumAttentionHeads { get; init; }

    /// <summary>num_key_value_heads; divides <see cref="NumAttentionHeads"/>.</summary>
    public required int NumKeyValueHeads { get; init; }

    /// <summary>head_dim (Qwen1: kv_channels); hidden_size / num_attention_heads where the file has none.</summary>
    public required int HeadDim { get; init; }

    /// <summary>Dimensions of a head that are rotated, the first ones: all, or partial_rotary_factor of them.</summary>
    public int RotaryDim { get => field == 0 ? HeadDim : field; init; }

    /// <summary>The layers with gated DeltaNet instead of attention; null where all have attention.</summary>
    public GatedDeltaNet? DeltaNet { get; init; }

    /// <summary>vocab_size: rows of the embedding, which may be more than the tokenizer has ids.</summary>
    public required int VocabSize { get; init; }

    /// <summary>rms_norm_eps (Qwen1: layer_norm_epsilon).</summary>
    public float RmsNormEps { get; init; } = 1e-6f;

    /// <summary>Rotary angles.</summary>
    public required RopeParameters Rope { get; init; }

    /// <summary>max_position_embeddings.</summary>
    public int MaxPositionEmbeddings { get; init; } = 32768;

    /// <summary>
    /// Tokens that a prompt and its answer may have together: max_position_embeddings, or factor times the original length where YaRN extends it
    /// (Qwen2.5's model card: 4 times 32,768, with max_position_embeddings left at 32,768).
    /// </summary>
    public int ContextLength => Rope.Type == "yarn"
        ? (int)Math.Clamp(Rope.Factor * Rope.OriginalMaximumPositions, MaxPositionEmbeddings, int.MaxValue)
        : MaxPositionEmbeddings;

    /// <summary>tie_word_embeddings: the output layer is the embedding.</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>Whether q, k and v have a bias: always in Qwen2, attention_bias in Qwen3.</summary>
    public bool AttentionBias { get; init; }

    /// <summary>Whether the linear layers that have no bias in published checkpoints have one: no_bias false in Qwen1.</summary>
    public bool LinearBias { get; init; }

    /// <summary>The experts of a mixture; null for models where every layer is one MLP.</summary>
    public ExpertConfig? Experts { get; init; }

    /// <summary>
    /// How many tokens back each layer sees, its own included; null where it sees all.
    /// From use_sliding_window, sliding_window, layer_types or max_window_layers.
    /// </summary>
    public required IReadOnlyList<int?> SlidingWindows { get; init; }

    /// <summary>eos_token_id of generation_config.json and config.json together: generation stops on each.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>What generation_config.json says of sampling; greedy where there is no such file.</summary>
    public GenerationDefaults Generation { get; init; } = new();

    /// <summary>The same model with its first layers alone.</summary>
    /// <param name="layers">How many, from 1 to as many as there are.</param>
    public QwenConfig FirstLayers(int layers)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(layers);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(layers, NumHiddenLayers);
        return this with
        {
            NumHiddenLayers = layers,
            SlidingWindows = [.. SlidingWindows.Take(layers)],
            DeltaNet = DeltaNet is null ? null : DeltaNet with { Layers = [.. DeltaNet.Layers.Take(layers)] },
            Experts = Experts is null ? null : Experts with { IsSparse = [.. Experts.IsSparse.Take(layers)] },
        };
    }

    /// <summary>Reads config.json (and generation_config.json beside it, where there is one).</summary>
    /// <exception cref="CheckpointException">A file is missing or is not JSON, a field is missing or impossible, or the architecture is unknown.</exception>
    public static QwenConfig Read(string folder)
    {
        ConfigFile file = ConfigFile.Open(Path.Combine(folder, FileName));
        Architecture architecture = Architecture.Find(file.Text("model_type") ?? "", file.Path);
        bool IsReadable(ConfigFile quantization) => quantization.Text("quant_method") == "bitsandbytes" && quantization.Flag("load_in_4bit");
        if (file.Section("quantization_config") is { } quantization && !IsReadable(quantization))
        {
            string method = quantization.Text("quant_method") ?? "no method";
            throw new CheckpointException($"{file.Path} describes a quantized checkpoint (quantization_config, {method}); "
                + "this version reads fp32, bf16 and fp16 checkpoints and those that bitsandbytes has quantized to 4 bits. Use the original one.");
        }

        ConfigFile? generation = ConfigFile.OpenIfThere(Path.Combine(folder, "generation_config.json"));
        return architecture.ReadConfig(file) with
        {
            EosTokenIds = [.. new[] { generation, file, file.Section("text_config") }.OfType<ConfigFile>().SelectMany(EosTokens).Distinct()],
            Generation = generation is null ? new GenerationDefaults() : GenerationDefaults.Read(generation),
        };
    }

    /// <summary>Reads what the dense families share. The bounds are far above any model and keep products of them from overflowing.</summary>
    /// <param name="file">config.json.</param>
    /// <param name="defaultRopeTheta">rope_theta where the file has none (the class default in transformers).</param>
    /// <param name="partialRotary">Whether the family may rotate a part of a head.</param>
    internal static QwenConfig Dense(ConfigFile file, double defaultRopeTheta, bool partialRotary = false)
    {
        int hidden = file.Int("hidden_size", 1 << 17);
        int heads = file.Int("num_attention_heads", 4096);
        int layers = file.Int("num_hidden_layers", 10_000);
        int kv = file.OptionalInt("num_key_value_heads", 4096) ?? heads;
        int headDim = file.OptionalInt("head_dim", 4096) ?? hidden / heads;
        if (heads % kv != 0)
        {
            throw new CheckpointException($"{file.Path}: num_attention_heads ({heads}) is not a multiple of num_key_value_heads ({kv}).");
        }

        if (headDim < 2 || headDim % 2 != 0)
        {
            throw new CheckpointException($"{file.Path}: the head size is {headDim}; rotary position embedding needs an even one.");
        }

        if (file.Text("hidden_act") is { } activation && activation is not ("silu" or "swish"))
        {
            throw new CheckpointException($"{file.Path}: hidden_act is '{activation}'; Qwen models use silu and nothing else is implemented.");
        }

        int positions = file.OptionalInt("max_position_embeddings", 1 << 30) ?? 32768;
        int maxWindowLayers = MaxWindowLayers(file);
        return new QwenConfig
        {
            ModelType = file.Text("model_type") ?? "",
            HiddenSize = hidden,
            IntermediateSize = file.Int("intermediate_size", 1 << 20),
            NumHiddenLayers = layers,
            NumAttentionHeads = heads,
            NumKeyValueHeads = kv,
            HeadDim = headDim,
            VocabSize = file.Int("vocab_size", 1 << 24),
            RmsNormEps = (float)(file.Number("rms_norm_eps", number => number is >= 0 and <= 1, "a number from 0 to 1") ?? 1e-6),
            Rope = RopeParameters.Read(file, positions, defaultRopeTheta, partialRotary),
            MaxPositionEmbeddings = positions,
            TieWordEmbeddings = file.Flag("tie_word_embeddings"),
            SlidingWindows = Windows(file, layers, layer => layer >= maxWindowLayers),
        };
    }

    /// <summary>How many tokens back the layers see that slide; null where none does.</summary>
    internal static int? SlidingWindow(ConfigFile file)
    {
        if (!file.Flag("use_sliding_window"))
        {
            return null;
        }

        // A window that is null is none; one that is not there has the default of transformers.
        return file.Has("sliding_window") ? file.OptionalInt("sliding_window", 1 << 30) : 4096;
    }

    /// <summary>The window of each layer.</summary>
    /// <param name="file">config.json.</param>
    /// <param name="layers">num_hidden_layers.</param>
    /// <param name="slides">Whether a layer slides that layer_types, which newer files have, does not name.</param>
    internal static int?[] Windows(ConfigFile file, int layers, Func<int, bool> slides)
    {
        if (SlidingWindow(file) is not { } window)
        {
            return new int?[layers];
        }

        bool[]? types = file.Value("layer_types") is { ValueKind: JsonValueKind.Array } list
            ? [.. list.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.String && item.ValueEquals("sliding_attention"))]
            : null;
        return [.. Enumerable.Range(0, layers).Select(i => (types is not null && i < types.Length ? types[i] : slides(i)) ? window : (int?)null)];
    }

    /// <summary>max_window_layers.</summary>
    internal static int MaxWindowLayers(ConfigFile file) => file.OptionalInt("max_window_layers", int.MaxValue, minimum: 0) ?? 28;

    private static IEnumerable<int> EosTokens(ConfigFile file)
    {
        JsonElement[] ids = file.Value("eos_token_id") switch
        {
            { ValueKind: JsonValueKind.Array } list => [.. list.EnumerateArray()],
            { } single => [single],
            null => [],
        };
        foreach (JsonElement id in ids)
        {
            if (id.ValueKind == JsonValueKind.Number && id.TryGetInt32(out int number))
            {
                yield return number;
            }
        }
    }
}
