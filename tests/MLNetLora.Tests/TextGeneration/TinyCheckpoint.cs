using System.Buffers.Binary;
using System.Text;
using MLNetLora.Adapters;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>The smallest files that look like a checkpoint folder and like an adapter.</summary>
internal static class TinyCheckpoint
{
    /// <summary>Writes config.json and model.safetensors with 300,000 bytes of weights, and returns the folder.</summary>
    public static string Write(string folder, byte weight = 1)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "config.json"), """{ "model_type": "qwen2", "hidden_size": 8 }""");
        File.WriteAllBytes(Path.Combine(folder, "model.safetensors"),
            Safetensors("""{"w":{"dtype":"F32","shape":[75000],"data_offsets":[0,300000]}}""", [.. Enumerable.Repeat(weight, 300_000)]));
        return folder;
    }

    public static LoraAdapter Adapter()
    {
        const string prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
        byte[] factors = Safetensors(
            $$$"""{"{{{prefix}}}A.weight":{"dtype":"F32","shape":[2,8],"data_offsets":[0,64]},"{{{prefix}}}B.weight":{"dtype":"F32","shape":[8,2],"data_offsets":[64,128]}}""", new byte[128]);
        const string config = """{"peft_type":"LORA","task_type":"CAUSAL_LM","r":2,"lora_alpha":4,"lora_dropout":0.0,"target_modules":["q_proj"],"bias":"none"}""";
        return LoraAdapter.FromPeft(factors, config, "test");
    }

    private static byte[] Safetensors(string header, byte[] data)
    {
        byte[] length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        return [.. length, .. Encoding.UTF8.GetBytes(header), .. data];
    }
}
