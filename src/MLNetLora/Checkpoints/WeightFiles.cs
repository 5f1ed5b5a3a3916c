using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>Which safetensors file of a checkpoint folder holds which tensor: model.safetensors alone, or the shards of model.safetensors.index.json.</summary>
internal static class WeightFiles
{
    /// <summary>Name of the file of a checkpoint in one.</summary>
    public const string SingleName = "model.safetensors";

    /// <summary>Name of the file that says which shard holds which tensor.</summary>
    public const string IndexName = "model.safetensors.index.json";

    /// <summary>Opens the folder's weight files, headers only.</summary>
    /// <returns>The file of each tensor by the tensor's name.</returns>
    /// <exception cref="CheckpointException">A file is missing or wrong, or the index leads out of the folder.</exception>
    public static Dictionary<string, SafetensorsFile> Locate(string folder)
    {
        string single = Path.Combine(folder, SingleName);
        if (File.Exists(single))
        {
            SafetensorsFile file = SafetensorsFile.Open(single);
            return file.Tensors.Keys.ToDictionary(name => name, _ => file);
        }

        string index = Path.Combine(folder, IndexName);
        if (File.Exists(index))
        {
            return Shards(folder, index);
        }

        string hint = Directory.EnumerateFiles(folder, "*.bin").Any()
            ? " It holds .bin files, which are Python pickles and are never opened; convert them to safetensors."
            : Directory.EnumerateFiles(folder, "*.gguf").Any()
                ? " It holds .gguf files, llama.cpp's quantized weights, which cannot be trained; take the checkpoint that they were made from."
                : "";
        throw new CheckpointException($"{folder} has neither {SingleName} nor {IndexName}.{hint}");
    }

    private static Dictionary<string, SafetensorsFile> Shards(string folder, string index)
    {
        Dictionary<string, SafetensorsFile> shards = [];
        Dictionary<string, SafetensorsFile> placed = [];
        try
        {
            ConfigFile map = ConfigFile.Open(index).Section("weight_map") ?? throw new CheckpointException($"{index} has no weight_map.");
            foreach (JsonProperty item in map.Root.EnumerateObject())
            {
                string shard = item.Value.ValueKind == JsonValueKind.String ? item.Value.GetString()! : "";
                if (shard.Length == 0 || shard != Path.GetFileName(shard))
                {
                    throw new CheckpointException($"{index} places '{item.Name}' in '{shard}'; only plain file names beside the index are allowed.");
                }

                if (!shards.TryGetValue(shard, out SafetensorsFile? file))
                {
                    file = shards[shard] = OpenShard(Path.Combine(folder, shard), index);
                }

                placed[item.Name] = file;
            }
        }
        catch (InvalidOperationException e) // a name with half a surrogate pair
        {
            throw new CheckpointException($"{index} is not valid JSON: {e.Message}", e);
        }

        return placed;
    }

    private static SafetensorsFile OpenShard(string path, string index) => File.Exists(path)
        ? SafetensorsFile.Open(path)
        : throw new CheckpointException($"{path} is missing, but {index} names it; download the checkpoint whole.");
}

/// <summary>A tensor of a checkpoint: its header entry and the file that holds it.</summary>
/// <param name="File">The safetensors file.</param>
/// <param name="Entry">Name, type and shape, and where its bytes lie in that file.</param>
internal sealed record CheckpointTensor(SafetensorsFile File, TensorEntry Entry)
{
    /// <summary>What else belongs to a weight in 4 bits; null for others.</summary>
    public FourBitStorage? FourBit { get; init; }

    /// <summary>The tensors of files that it is read from.</summary>
    public IEnumerable<CheckpointTensor> Parts => FourBit is null ? [this]
        : [this, FourBit.AbsMax, .. FourBit.Nested is { } n ? [n.AbsMax] : (CheckpointTensor[])[]];

    /// <summary>The files that it is read from.</summary>
    public IEnumerable<SafetensorsFile> Files => Parts.Select(part => part.File);

    /// <summary>Reads the tensor into memory as float32.</summary>
    public float[] ReadFloat32()
    {
        if (FourBit is null)
        {
            return File.ReadFloat32(Entry);
        }

        float[] values = new float[Entry.Count];
        using TensorRows rows = new(Files.Distinct());
        rows.Read(this, 0, values);
        return values;
    }
}
