using System.Text.Json;
using MLNetLora.Checkpoints;

namespace MLNetLora.Models;

/// <summary>What config.json says of a model, under the field's names.</summary>
public sealed record QwenConfig
{
    /// <summary>model_type: qwen2, qwen3, ….</summary>
    public required string ModelType { get; init; }

    /// <summary>hidden_size.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>intermediate_size.</summary>
    public required int IntermediateSize { get; init; }

    /// <summary>num_hidden_layers.</summary>
    public required int NumHiddenLayers { get; init; }

    /// <summary>num_attention_heads.</summary>
    public required int NumAttentionHeads { get; init; }

    /// <summary>num_key_value_heads; divides <see cref="NumAttentionHeads"/>.</summary>
    public required int NumKeyValueHeads { get; init; }

    /// <summary>head_dim; hidden_size / num_attention_heads where the file has none.</summary>
    public required int HeadDim { get; init; }

    /// <summary>vocab_size: rows of the embedding, which may be more than the tokenizer has ids.</summary>
    public required int VocabSize { get; init; }

    /// <summary>rms_norm_eps.</summary>
    public float RmsNormEps { get; init; } = 1e-6f;

    /// <summary>Rotary angles.</summary>
    public required RopeParameters Rope { get; init; }

    /// <summary>max_position_embeddings.</summary>
    public int MaxPositionEmbeddings { get; init; } = 32768;

    /// <summary>
    /// Tokens that a prompt and its answer may have together: max_position_embeddings, or factor times the original length where YaRN extends it (Qwen2.5's model card: 4 times 32,768, with
    /// max_position_embeddings left at 32,768).
    /// </summary>
    public int ContextLength => Rope.Type == "yarn"
        ? (int)Math.Clamp(Rope.Factor * Rope.OriginalMaximumPositions, MaxPositionEmbeddings, int.MaxValue)
        : MaxPositionEmbeddings;

    /// <summary>tie_word_embeddings: the output layer is the embedding.</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>Whether q, k and v have a bias: always in Qwen2, attention_bias in Qwen3.</summary>
    public bool AttentionBias { get; init; }

    /// <summary>How many tokens back each layer sees, its own included; null where it sees all. From use_sliding_window, sliding_window, layer_types or max_window_layers.</summary>
    public required IReadOnlyList<int?> SlidingWindows { get; init; }

    /// <summary>eos_token_id of generation_config.json and config.json together: generation stops on each.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>What generation_config.json says of sampling; greedy where there is no such file.</summary>
    public GenerationDefaults Generation { get; init; } = new();

    /// <summary>Reads config.json (and generation_config.json beside it, where there is one).</summary>
    /// <exception cref="CheckpointException">A file is missing or is not JSON, a field is missing or impossible, or the architecture is unknown.</exception>
    public static QwenConfig Read(string folder)
    {
        try
        {
            return ReadFile(folder);
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or OverflowException)
        {
            throw new CheckpointException($"config.json or generation_config.json in {folder} has a value that cannot be read: {e.Message}", e);
        }
    }

    private static QwenConfig ReadFile(string folder)
    {
        string file = Path.Combine(folder, "config.json");
        using JsonDocument document = Parse(file);
        JsonElement root = document.RootElement;
        string modelType = root.TryGetProperty("model_type", out JsonElement kind) && kind.ValueKind == JsonValueKind.String ? kind.GetString()! : "";
        Architecture architecture = Architecture.Find(modelType, file);
        if (root.TryGetProperty("quantization_config", out JsonElement quantization) && quantization.ValueKind == JsonValueKind.Object)
        {
            throw new CheckpointException($"{file} describes a quantised checkpoint (quantization_config); this version reads fp32, bf16 and fp16 checkpoints. Use the original one.");
        }

        int hidden = Int("hidden_size");
        int heads = Int("num_attention_heads");
        int layers = Int("num_hidden_layers");
        if (layers > 10_000)
        {
            throw new CheckpointException($"{file}: num_hidden_layers is {layers}; no model has that many.");
        }

        int kv = OptionalInt("num_key_value_heads") ?? heads;
        int headDim = OptionalInt("head_dim") ?? hidden / heads;
        if (heads % kv != 0)
        {
            throw new CheckpointException($"{file}: num_attention_heads ({heads}) is not a multiple of num_key_value_heads ({kv}).");
        }

        if (headDim % 2 != 0)
        {
            throw new CheckpointException($"{file}: the head size is {headDim}; rotary position embedding needs an even one.");
        }

        if (root.TryGetProperty("hidden_act", out JsonElement act) && act.ValueKind == JsonValueKind.String && act.GetString() is string name && name is not "silu" and not "swish")
        {
            throw new CheckpointException($"{file}: hidden_act is '{name}'; Qwen models use silu and nothing else is implemented.");
        }

        int positions = OptionalInt("max_position_embeddings") ?? 32768;
        return new QwenConfig
        {
            ModelType = modelType,
            HiddenSize = hidden,
            IntermediateSize = Int("intermediate_size"),
            NumHiddenLayers = layers,
            NumAttentionHeads = heads,
            NumKeyValueHeads = kv,
            HeadDim = headDim,
            VocabSize = Int("vocab_size"),
            RmsNormEps = root.TryGetProperty("rms_norm_eps", out JsonElement eps) && eps.ValueKind == JsonValueKind.Number ? eps.GetSingle() : 1e-6f,
            Rope = RopeParameters.Read(root, file, positions, architecture.DefaultRopeTheta),
            MaxPositionEmbeddings = positions,
            TieWordEmbeddings = Flag("tie_word_embeddings"),
            AttentionBias = architecture.AlwaysAttentionBias || Flag("attention_bias"),
            SlidingWindows = Windows(root, layers, Flag("use_sliding_window"), root.TryGetProperty("sliding_window", out _) ? OptionalInt("sliding_window") : 4096, OptionalInt("max_window_layers", minimum: 0) ?? 28),
            EosTokenIds = Eos(root, Path.Combine(folder, "generation_config.json")),
            Generation = ReadGeneration(Path.Combine(folder, "generation_config.json")),
        };

        int Int(string field) => OptionalInt(field) ?? throw new CheckpointException($"{file} has no {field}.");
        bool Flag(string field) => root.TryGetProperty(field, out JsonElement value) && value.ValueKind == JsonValueKind.True;
        int? OptionalInt(string field, int minimum = 1) => !root.TryGetProperty(field, out JsonElement value) || value.ValueKind == JsonValueKind.Null
            ? null
            : value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) && number >= minimum
                ? number
                : throw new CheckpointException($"{file}: {field} is {value.GetRawText()}; it must be a whole number of at least {minimum}.");
    }

    private static int?[] Windows(JsonElement root, int layers, bool used, int? window, int maxWindowLayers)
    {
        if (!used || window is null)
        {
            return new int?[layers];
        }

        // layer_types (newer files) names each layer; without it the layers from max_window_layers on slide.
        string?[]? types = root.TryGetProperty("layer_types", out JsonElement list) && list.ValueKind == JsonValueKind.Array
            ? [.. list.EnumerateArray().Select(item => item.ValueKind == JsonValueKind.String ? item.GetString() : null)]
            : null;
        return [.. Enumerable.Range(0, layers).Select(i => (types is not null && i < types.Length ? types[i] == "sliding_attention" : i >= maxWindowLayers) ? window : null)];
    }

    private static GenerationDefaults ReadGeneration(string file)
    {
        if (!File.Exists(file))
        {
            return new GenerationDefaults();
        }

        using JsonDocument document = Parse(file);
        return GenerationDefaults.Read(document.RootElement, file);
    }

    private static List<int> Eos(JsonElement root, string generationFile)
    {
        List<int> ids = [];
        if (File.Exists(generationFile))
        {
            using JsonDocument generation = Parse(generationFile);
            Collect(generation.RootElement);
        }

        Collect(root);
        return ids;

        void Collect(JsonElement element)
        {
            if (element.ValueKind != JsonValueKind.Object || !element.TryGetProperty("eos_token_id", out JsonElement eos))
            {
                return;
            }

            foreach (JsonElement id in eos.ValueKind == JsonValueKind.Array ? [.. eos.EnumerateArray()] : new[] { eos })
            {
                if (id.ValueKind == JsonValueKind.Number && id.TryGetInt32(out int number) && !ids.Contains(number))
                {
                    ids.Add(number);
                }
            }
        }
    }

    private static JsonDocument Parse(string file)
    {
        try
        {
            JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(file));
            return document.RootElement.ValueKind == JsonValueKind.Object ? document : throw new CheckpointException($"{file} is not a JSON object.");
        }
        catch (JsonException e)
        {
            throw new CheckpointException(NotSafetensors.Of(file) is { } what ? $"{file} {what}" : $"{file} is not valid JSON: {e.Message}", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException($"{file} cannot be read ({e.Message}); a checkpoint folder has config.json, *.safetensors and tokenizer files.", e);
        }
    }
}
