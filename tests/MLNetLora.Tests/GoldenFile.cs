using System.Text.Json;
using MLNetLora.Checkpoints;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests;

/// <summary>Reads what the golden cases hold, integers included, and makes batches of them.</summary>
internal sealed class GoldenFile(string path)
{
    private readonly SafetensorsFile _file = SafetensorsFile.Open(path);

    public IEnumerable<string> Names => _file.Tensors.Keys;

    public float[] Floats(string name)
    {
        TensorEntry entry = _file.Tensors[name];
        return entry.TypeName == "F64" ? [.. Raw<double>(entry).Select(value => (float)value)] : _file.ReadFloat32(entry);
    }

    public byte[] Bytes(string name) => Raw<byte>(_file.Tensors[name]);

    public long[] Longs(string name)
    {
        TensorEntry entry = _file.Tensors[name];
        return entry.TypeName == "I32" ? [.. Raw<int>(entry).Select(value => (long)value)] : Raw<long>(entry);
    }

    public IReadOnlyList<long> Shape(string name) => _file.Tensors[name].Shape;

    /// <summary>The rows of a padded batch, padding cut off by the attention mask.</summary>
    public IReadOnlyList<TrainingRow> Rows()
    {
        long[] ids = Longs("input_ids");
        long[] mask = Longs("attention_mask");
        long[] labels = Longs("labels");
        (int rows, int length) = ((int)Shape("input_ids")[0], (int)Shape("input_ids")[1]);
        return [.. Enumerable.Range(0, rows).Select(r =>
        {
            int used = Enumerable.Range(0, length).Count(i => mask[(r * length) + i] != 0);
            return new TrainingRow([.. ids.AsSpan(r * length, used).ToArray().Select(id => (int)id)],
                [.. labels.AsSpan(r * length, used).ToArray().Select(id => (int)id)]);
        })];
    }

    /// <summary>Reads a JSON file.</summary>
    public static JsonElement Json(string path)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
        return document.RootElement.Clone();
    }

    /// <summary>The reason for which a checkpoint of the set is not supported yet; null when it is.</summary>
    public static string? Unsupported(string modelFolder)
    {
        JsonElement config = Json(Path.Combine(modelFolder, "config.json"));
        string type = config.GetProperty("model_type").GetString()!;
        return type is "qwen" or "qwen2" or "qwen3" or "qwen2_moe" or "qwen3_moe" or "qwen3_5" or "qwen3_5_text" ? null : $"model_type {type}";
    }

    /// <summary>The feature of a PEFT folder that is not supported yet; null when there is none. Said by hand, so that a refusal by mistake does not
    /// pass for a skip.</summary>
    public static string? UnsupportedAdapter(string folder)
    {
        JsonElement config = Json(Path.Combine(folder, "adapter_config.json"));
        return Is("lora_bias", value => value.ValueKind == JsonValueKind.True, "lora_bias");

        string? Is(string key, Func<JsonElement, bool> set, string reason) =>
            config.TryGetProperty(key, out JsonElement value) && value.ValueKind != JsonValueKind.Null && set(value) ? reason : null;
    }

    /// <summary>‖a − b‖ / ‖b‖.</summary>
    public static double RelativeError(ReadOnlySpan<float> actual, ReadOnlySpan<float> expected)
    {
        (double difference, double norm) = (0, 0);
        for (int i = 0; i < expected.Length; i++)
        {
            difference += Math.Pow((double)actual[i] - expected[i], 2);
            norm += Math.Pow(expected[i], 2);
        }

        return Math.Sqrt(difference / Math.Max(norm, 1e-300));
    }

    private T[] Raw<T>(TensorEntry entry)
        where T : unmanaged
    {
        byte[] bytes = new byte[entry.Length];
        using FileStream stream = File.OpenRead(_file.Source);
        stream.Position = entry.Offset;
        stream.ReadExactly(bytes);
        return System.Runtime.InteropServices.MemoryMarshal.Cast<byte, T>(bytes).ToArray();
    }
}
