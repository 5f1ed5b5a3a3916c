using System.Numerics.Tensors;
using System.Text.Json.Nodes;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>A merged checkpoint in another type than its base: tensors, header, and the files that say what type it has.</summary>
internal static class MergedType
{
    private static readonly System.Text.Json.JsonSerializerOptions s_indented = new()
    {
        WriteIndented = true,
        NewLine = "\n",
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>The tensors of a file in another type; what is no float stays as it is.</summary>
    /// <param name="entries">The tensors, in order.</param>
    /// <param name="type">The type.</param>
    /// <param name="write">Writes a tensor in a type.</param>
    public static IReadOnlyList<SafetensorsWriter.Item> Items(
        IReadOnlyList<TensorEntry> entries, TensorType type, Action<TensorEntry, TensorType> write) =>
        [.. entries.Select(entry => IsFloat(entry)
            ? new SafetensorsWriter.Item(entry.Name, type, entry.Shape, _ => write(entry, type))
            : SafetensorsWriter.Item.AsIs(entry, _ => write(entry, entry.Type)))];

    /// <summary>How many bytes a file will have.</summary>
    public static long Length(SafetensorsFile file, TensorType type) =>
        SafetensorsWriter.Length(Items([.. file.Tensors.Values], type, (_, _) => { }));

    /// <summary>Writes stored numbers in a type.</summary>
    /// <param name="target">Where to.</param>
    /// <param name="bytes">The numbers as they are stored.</param>
    /// <param name="entry">Their tensor.</param>
    /// <param name="type">The type.</param>
    public static void Write(Stream target, ReadOnlySpan<byte> bytes, TensorEntry entry, TensorType type)
    {
        if (type == entry.Type)
        {
            target.Write(bytes);
            return;
        }

        float[] values = new float[bytes.Length / (entry.Type == TensorType.Float32 ? 4 : 2)];
        FloatConversion.ToFloat32(bytes, entry.Type, values, entry.Name);
        SafetensorsWriter.Write(target, Fitting(entry.Name, values, type), type);
    }

    /// <summary>Refuses numbers that a float16 cannot be.</summary>
    /// <exception cref="OptionException">One is too large.</exception>
    public static ReadOnlySpan<float> Fitting(string name, ReadOnlySpan<float> values, TensorType type)
    {
        float largest = type == TensorType.Float16 && !values.IsEmpty ? TensorPrimitives.MaxMagnitude(values) : 0;
        return float.IsInfinity((float)(Half)largest) && float.IsFinite(largest)
            ? throw new OptionException(FormattableString.Invariant(
                $"'{name}' holds numbers up to {MathF.Abs(largest):G4}, which float16 cannot be; take bfloat16 or float32. Nothing was written."))
            : values;
    }

    /// <summary>What config.json or an index of shards says in a type; null for other files, which are copied.</summary>
    public static string? Rewritten(string path, Checkpoint checkpoint, TensorType type)
    {
        string name = Path.GetFileName(path);
        if (name != QwenConfig.FileName && !name.EndsWith(".safetensors.index.json", StringComparison.Ordinal))
        {
            return null;
        }

        if (JsonNode.Parse(File.ReadAllText(path)) is not JsonObject json)
        {
            return null; // the checkpoint would not have been opened
        }

        if (name == QwenConfig.FileName)
        {
            Retype(json, type);
            if (json["text_config"] is JsonObject text)
            {
                Retype(text, type);
            }
        }
        else if (json["metadata"] is JsonObject metadata)
        {
            metadata["total_size"] = checkpoint.Files.Sum(file => Items([.. file.Tensors.Values], type, (_, _) => { }).Sum(item => item.Length));
        }

        return json.ToJsonString(s_indented) + "\n";
    }

    /// <summary>Sets the keys that name the type: torch_dtype, dtype (transformers 5), and Qwen1's three flags.</summary>
    private static void Retype(JsonObject config, TensorType type)
    {
        string name = type switch { TensorType.Float16 => "float16", TensorType.BFloat16 => "bfloat16", _ => "float32" };
        foreach (string key in (string[])["torch_dtype", "dtype"])
        {
            if (config.ContainsKey(key))
            {
                config[key] = name;
            }
        }

        foreach ((string key, TensorType flag) in ((string, TensorType)[])[("fp16", TensorType.Float16), ("bf16", TensorType.BFloat16), ("fp32", TensorType.Float32)])
        {
            if (config.ContainsKey(key))
            {
                config[key] = flag == type;
            }
        }
    }

    private static bool IsFloat(TensorEntry entry) => entry.Type is TensorType.Float32 or TensorType.Float16 or TensorType.BFloat16;
}
