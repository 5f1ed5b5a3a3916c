using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>The smallest Qwen2 checkpoint folder, without a tokenizer, and an adapter for it.</summary>
internal static class TinyCheckpoint
{
    private const string Config = """
        { "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
          "vocab_size": 8192, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "float32" }
        """;

    private const string Layer = "model.layers.0.";

    private static readonly (string Name, int[] Shape)[] s_tensors =
    [
        ("model.embed_tokens.weight", [8192, 8]), ("model.norm.weight", [8]), ($"{Layer}input_layernorm.weight", [8]), ($"{Layer}post_attention_layernorm.weight", [8]),
        ($"{Layer}self_attn.q_proj.weight", [8, 8]), ($"{Layer}self_attn.q_proj.bias", [8]), ($"{Layer}self_attn.k_proj.weight", [4, 8]), ($"{Layer}self_attn.k_proj.bias", [4]),
        ($"{Layer}self_attn.v_proj.weight", [4, 8]), ($"{Layer}self_attn.v_proj.bias", [4]), ($"{Layer}self_attn.o_proj.weight", [8, 8]),
        ($"{Layer}mlp.gate_proj.weight", [16, 8]), ($"{Layer}mlp.up_proj.weight", [16, 8]), ($"{Layer}mlp.down_proj.weight", [8, 16]),
    ];

    /// <summary>Writes config.json and model.safetensors with some 260,000 bytes of weights, all alike, and returns the folder.</summary>
    public static string Write(string folder, float weight = 1)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "config.json"), Config);
        File.WriteAllBytes(Path.Combine(folder, "model.safetensors"), Safetensors(weight, s_tensors));
        return folder;
    }

    /// <summary>Renames the weights of such a folder to a shard and writes the index that names it.</summary>
    public static void Shard(string folder, string name)
    {
        File.Move(Path.Combine(folder, "model.safetensors"), Path.Combine(folder, name));
        File.WriteAllText(Path.Combine(folder, "model.safetensors.index.json"), JsonSerializer.Serialize(new { weight_map = s_tensors.ToDictionary(tensor => tensor.Name, _ => name) }));
    }

    /// <summary>A rank 2 adapter of q_proj for the checkpoint in the folder.</summary>
    public static LoraAdapter Adapter(string baseFolder)
    {
        const string prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
        const string config = """{"peft_type":"LORA","task_type":"CAUSAL_LM","r":2,"lora_alpha":4,"lora_dropout":0.0,"target_modules":["q_proj"],"bias":"none"}""";
        return LoraAdapter.FromPeft(Safetensors(0.5f, ($"{prefix}A.weight", [2, 8]), ($"{prefix}B.weight", [8, 2])), config, "test", Checkpoint.Open(baseFolder));
    }

    private static byte[] Safetensors(float value, params (string Name, int[] Shape)[] tensors)
    {
        int offset = 0;
        Dictionary<string, object> entries = [];
        foreach ((string name, int[] shape) in tensors)
        {
            int end = offset + (4 * shape.Aggregate(1, (left, right) => left * right));
            entries[name] = new { dtype = "F32", shape, data_offsets = new[] { offset, end } };
            offset = end;
        }

        byte[] header = Encoding.UTF8.GetBytes(JsonSerializer.Serialize(entries));
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        return [.. length, .. header, .. MemoryMarshal.AsBytes(Enumerable.Repeat(value, offset / 4).ToArray())];
    }
}
