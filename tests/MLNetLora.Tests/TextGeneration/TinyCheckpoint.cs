using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>A Qwen2 checkpoint folder of some 100,000 random weights with the nano checkpoint's tokenizer, which answers every question otherwise,
/// and an adapter for it.</summary>
internal static class TinyCheckpoint
{
    private const string Config = """
        { "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 16, "intermediate_size": 32,
          "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5632, "max_position_embeddings": 256,
          "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": true, "torch_dtype": "float32" }
        """;

    private const string Layer = "model.layers.0.";

    private static readonly (string Name, int[] Shape)[] s_tensors =
    [
        ("model.embed_tokens.weight", [5632, 16]),
        ("model.norm.weight", [16]),
        ($"{Layer}input_layernorm.weight", [16]),
        ($"{Layer}post_attention_layernorm.weight", [16]),
        ($"{Layer}self_attn.q_proj.weight", [16, 16]),
        ($"{Layer}self_attn.q_proj.bias", [16]),
        ($"{Layer}self_attn.k_proj.weight", [8, 16]),
        ($"{Layer}self_attn.k_proj.bias", [8]),
        ($"{Layer}self_attn.v_proj.weight", [8, 16]),
        ($"{Layer}self_attn.v_proj.bias", [8]),
        ($"{Layer}self_attn.o_proj.weight", [16, 16]),
        ($"{Layer}mlp.gate_proj.weight", [32, 16]),
        ($"{Layer}mlp.up_proj.weight", [32, 16]),
        ($"{Layer}mlp.down_proj.weight", [16, 32]),
    ];

    /// <summary>Writes the folder with some 370,000 bytes of weights, and returns it.</summary>
    public static string Write(string folder, int seed = 1)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "config.json"), Config);
        File.WriteAllBytes(Path.Combine(folder, "model.safetensors"), Safetensors(seed, s_tensors));
        foreach (string name in (string[])["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
        {
            File.Copy(Path.Combine(Repository.Nano, name), Path.Combine(folder, name), overwrite: true);
        }

        return folder;
    }

    /// <summary>Renames the weights of such a folder to a shard and writes the index that names it.</summary>
    public static void Shard(string folder, string name)
    {
        File.Move(Path.Combine(folder, "model.safetensors"), Path.Combine(folder, name));
        string index = JsonSerializer.Serialize(new { weight_map = s_tensors.ToDictionary(tensor => tensor.Name, _ => name) });
        File.WriteAllText(Path.Combine(folder, "model.safetensors.index.json"), index);
    }

    /// <summary>A rank 2 adapter of q_proj for the checkpoint in the folder.</summary>
    public static LoraAdapter Adapter(string baseFolder)
    {
        const string prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
        const string config = """
            {"peft_type":"LORA","task_type":"CAUSAL_LM","r":2,"lora_alpha":4,"lora_dropout":0.0,"target_modules":["q_proj"],"bias":"none"}
            """;
        return LoraAdapter.FromPeft(Safetensors(7, ($"{prefix}A.weight", [2, 16]), ($"{prefix}B.weight", [16, 2])), config, "test",
            Checkpoint.Open(baseFolder));
    }

    private static byte[] Safetensors(int seed, params (string Name, int[] Shape)[] tensors)
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
        Random random = new(seed);
        float[] values = [.. Enumerable.Range(0, offset / 4).Select(_ => (random.NextSingle() * 2) - 1)];
        return [.. length, .. header, .. MemoryMarshal.AsBytes(values)];
    }
}
