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

        File.WriteAllText(Path.Combine(folder, "config.json"), JsonSerializer.Serialize(new Dictionary<string, object?>
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
        }));
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
        foreach (TrainableTensor tensor in parameters.Tensors)
        {
            foreach (ref float value in parameters.Slice(parameters.Values, tensor.Name))
            {
                value = ((random.NextSingle() * 2) - 1) * 0.4f;
                value += tensor.Shape.Count == 1 && !tensor.Name.EndsWith(".bias", StringComparison.Ordinal) ? 1 : 0;
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
