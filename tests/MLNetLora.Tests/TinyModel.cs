using System.Text.Json;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests;

/// <summary>Models of a few hundred numbers, for tests that need no golden case.</summary>
internal static class TinyModel
{
    public const int Vocabulary = 24;

    /// <summary>Writes config.json.</summary>
    public static void WriteConfig(string folder, string modelType, bool tied, int? slidingWindow = null, int layers = 2, int positions = 64)
    {
        Directory.CreateDirectory(folder);
        if (modelType == "qwen")
        {
            WriteQwen1Config(folder, tied, layers, positions);
            return;
        }

        Dictionary<string, object?> config = new()
        {
            ["model_type"] = modelType,
            ["hidden_size"] = 16,
            ["intermediate_size"] = 24,
            ["num_hidden_layers"] = layers,
            ["num_attention_heads"] = 4,
            ["num_key_value_heads"] = 2,
            ["head_dim"] = 8,
            ["vocab_size"] = Vocabulary,
            ["rms_norm_eps"] = 1e-6,
            ["rope_theta"] = 10000.0,
            ["max_position_embeddings"] = positions,
            ["tie_word_embeddings"] = tied,
            ["use_sliding_window"] = slidingWindow is not null,
            ["sliding_window"] = slidingWindow,
            ["max_window_layers"] = 1,
            ["eos_token_id"] = 1,
        };
        if (modelType.StartsWith("qwen3_5", StringComparison.Ordinal))
        {
            config = Qwen35Config(config, layers);
        }

        if (modelType.EndsWith("_moe", StringComparison.Ordinal))
        {
            config["num_experts"] = 7;
            config["num_experts_per_tok"] = 2;
            config["moe_intermediate_size"] = 12;
            config["shared_expert_intermediate_size"] = 20;
            config["decoder_sparse_step"] = 1;
            config["norm_topk_prob"] = true;
        }

        File.WriteAllText(Path.Combine(folder, "config.json"), JsonSerializer.Serialize(config));
    }

    /// <summary>Layers of both kinds in turn, the last one recurrent; one key head for two value heads, and sizes that are no powers of two.</summary>
    private static Dictionary<string, object?> Qwen35Config(Dictionary<string, object?> config, int layers)
    {
        Dictionary<string, object?> text = new(config)
        {
            ["model_type"] = "qwen3_5_text",
            ["head_dim"] = 16,
            ["partial_rotary_factor"] = 0.25,
            ["layer_types"] = Enumerable.Range(0, layers).Select(layer => (layers - layer) % 2 == 1 ? "linear_attention" : "full_attention"),
            ["linear_conv_kernel_dim"] = 3,
            ["linear_num_key_heads"] = 2,
            ["linear_num_value_heads"] = 4,
            ["linear_key_head_dim"] = 6,
            ["linear_value_head_dim"] = 5,
        };
        return config["model_type"] is "qwen3_5_text"
            ? text
            : new Dictionary<string, object?> { ["model_type"] = "qwen3_5", ["text_config"] = text, ["tie_word_embeddings"] = config["tie_word_embeddings"] };
    }

    /// <summary>Writes config.json of a Qwen1 model that was trained with up to 32 tokens, or with positions if those are fewer.</summary>
    public static void WriteQwen1Config(
        string folder,
        bool tied = false,
        int layers = 2,
        int positions = 64,
        int vocabulary = Vocabulary,
        bool noBias = true) =>
        File.WriteAllText(Path.Combine(folder, "config.json"), JsonSerializer.Serialize(new Dictionary<string, object?>
        {
            ["model_type"] = "qwen",
            ["hidden_size"] = 16,
            ["intermediate_size"] = 48,
            ["num_hidden_layers"] = layers,
            ["num_attention_heads"] = 2,
            ["kv_channels"] = 8,
            ["vocab_size"] = vocabulary,
            ["layer_norm_epsilon"] = 1e-6,
            ["rotary_emb_base"] = 10000,
            ["seq_length"] = Math.Min(32, positions),
            ["max_position_embeddings"] = positions,
            ["tie_word_embeddings"] = tied,
            ["no_bias"] = noBias,
            ["use_dynamic_ntk"] = true,
            ["use_logn_attn"] = true,
        }));

    /// <summary>Writes a whole checkpoint with random weights.</summary>
    public static Checkpoint WriteCheckpoint(string folder, string modelType = "qwen3", bool tied = true, TensorType type = TensorType.Float32, int seed = 1,
        int? slidingWindow = null, int positions = 64)
    {
        WriteConfig(folder, modelType, tied, slidingWindow, positions: positions);
        return WriteWeights(folder, type, seed);
    }

    /// <summary>Writes random weights beside a config.json.</summary>
    public static Checkpoint WriteWeights(string folder, TensorType type = TensorType.Float32, int seed = 1)
    {
        TrainingTarget target = TrainingTarget.Full(MLNetLora.Models.QwenConfig.Read(folder));
        using ParameterSet parameters = new(target.Trainables);
        Fill(parameters, new Random(seed));
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), [.. target.Trainables.Select(tensor =>
            SafetensorsWriter.Item.From(tensor.Name, type, tensor.Shape, parameters.Slice(parameters.Values, tensor.Name).ToArray()))]);
        return Checkpoint.Open(folder);
    }

    /// <summary>Random weights, large enough that every part matters.</summary>
    public static void Fill(ParameterSet parameters, Random random)
    {
        // With layers of this kind other norms store their factors less one.
        bool lessOne = parameters.Tensors.Any(tensor => tensor.Name.EndsWith(".linear_attn.norm.weight", StringComparison.Ordinal));
        foreach (TrainableTensor tensor in parameters.Tensors)
        {
            foreach (ref float value in parameters.Slice(parameters.Values, tensor.Name))
            {
                value = ((random.NextSingle() * 2) - 1) * 0.4f;
                value += tensor.Shape.Count == 1 && !tensor.Name.EndsWith(".bias", StringComparison.Ordinal)
                    && (!lessOne || tensor.Name.Contains(".linear_attn.", StringComparison.Ordinal)) ? 1 : 0;
            }
        }
    }

    /// <summary>A row of random ids; the first third has no labels.</summary>
    public static TrainingRow Row(Random random, int length)
    {
        int[] ids = [.. Enumerable.Range(0, length).Select(_ => random.Next(Vocabulary))];
        return new TrainingRow(ids, [.. ids.Select((id, i) => i < length / 3 ? TrainingRow.Ignore : id)]);
    }
}
