using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.Tests.Quantization;

/// <summary>Checkpoints in 4 bits, as bitsandbytes saves them.</summary>
internal static class FourBitFolder
{
    /// <summary>What bitsandbytes would have saved of a checkpoint, in a folder of its own.</summary>
    /// <param name="plain">The checkpoint.</param>
    /// <param name="precision">Which 4 bits.</param>
    /// <param name="folder">The folder.</param>
    /// <param name="alsoHead">Quantizes the output layer too, as with llm_int8_skip_modules without it; nf4 alone.</param>
    public static Checkpoint Write(Checkpoint plain, WeightPrecision precision, string folder, bool alsoHead = false)
    {
        Checkpoint quantized = FourBitCache.Open(plain, precision);
        Directory.CreateDirectory(folder);
        JsonNode config = JsonNode.Parse(File.ReadAllText(Path.Combine(plain.Folder, "config.json")))!;
        config["quantization_config"] = JsonNode.Parse("""{"quant_method":"bitsandbytes","load_in_4bit":true}""");
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        List<SafetensorsWriter.Item> items = [];
        foreach (CheckpointTensor tensor in quantized.Tensors.Values.Where(tensor => tensor.FourBit is null))
        {
            items.AddRange(alsoHead && tensor.Entry.Name == "lm_head.weight"
                ? Quantized(tensor)
                : [SafetensorsWriter.Item.From(tensor.Entry.Name, TensorType.Float32, tensor.Entry.Shape, tensor.ReadFloat32())]);
        }

        SafetensorsFile cached = quantized.Tensors.Values.First(tensor => tensor.FourBit is not null).File;
        byte[] bytes = File.ReadAllBytes(cached.Source);
        foreach (TensorEntry entry in cached.Tensors.Values.OrderBy(entry => entry.Offset))
        {
            items.Add(new(entry.Name, entry.Type, entry.Shape, stream => stream.Write(bytes, (int)entry.Offset, (int)entry.Length)));
        }

        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), items);
        return Checkpoint.Open(folder);
    }

    private static SafetensorsWriter.Item[] Quantized(CheckpointTensor tensor)
    {
        (string name, int count) = (tensor.Entry.Name, (int)tensor.Entry.Count);
        byte[] codes = new byte[count / 2];
        float[] absmax = new float[count / 64];
        FourBitCode.Quantize(FourBitType.Nf4, tensor.ReadFloat32(), codes, absmax);
        byte[] state = JsonSerializer.SerializeToUtf8Bytes(new { quant_type = "nf4", blocksize = 64, dtype = "float32", shape = tensor.Entry.Shape });
        return
        [
            new(name, TensorType.UInt8, [codes.Length, 1], stream => stream.Write(codes)),
            new($"{name}.quant_state.bitsandbytes__nf4", TensorType.UInt8, [state.Length], stream => stream.Write(state)),
            SafetensorsWriter.Item.From($"{name}.quant_map", TensorType.Float32, [16], FourBitCode.Levels(FourBitType.Nf4).ToArray()),
            SafetensorsWriter.Item.From($"{name}.absmax", TensorType.Float32, [absmax.Length], absmax),
        ];
    }
}
