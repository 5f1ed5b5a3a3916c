using System.Text.Json;
using MLNetLora.Models;

namespace MLNetLora.Checkpoints;

/// <summary>A tensor of a checkpoint: its header entry and the file that holds it.</summary>
/// <param name="File">The safetensors file.</param>
/// <param name="Entry">Name, type, shape and place in that file.</param>
public sealed record CheckpointTensor(SafetensorsFile File, TensorEntry Entry)
{
    /// <summary>Reads the tensor into memory as float32.</summary>
    public float[] ReadFloat32() => File.ReadFloat32(Entry);
}

/// <summary>
/// A Hugging Face checkpoint folder: config.json and safetensors in one file or in shards with model.safetensors.index.json.
/// Opening it reads headers only and checks that every tensor of the architecture is there with the right shape and a float type.
/// </summary>
public sealed class Checkpoint
{
    private readonly Dictionary<string, CheckpointTensor> _tensors;

    private Checkpoint(string folder, QwenConfig config, Architecture architecture, List<SafetensorsFile> files, Dictionary<string, CheckpointTensor> tensors)
    {
        Folder = folder;
        Config = config;
        Architecture = architecture;
        Files = files;
        _tensors = tensors;
    }

    /// <summary>The folder, absolute.</summary>
    public string Folder { get; }

    /// <summary>What config.json says.</summary>
    public QwenConfig Config { get; }

    /// <summary>The safetensors files, in the order of their names.</summary>
    public IReadOnlyList<SafetensorsFile> Files { get; }

    /// <summary>The tensors of the architecture by name; extra ones in the files are left out.</summary>
    public IReadOnlyDictionary<string, CheckpointTensor> Tensors => _tensors;

    /// <summary>Number of parameters of the base model, tied ones counted once.</summary>
    public long ParameterCount => _tensors.Values.Sum(tensor => tensor.Entry.Count);

    internal Architecture Architecture { get; }

    /// <summary>Opens a folder.</summary>
    /// <exception cref="CheckpointException">A file is missing, truncated or wrong; the architecture is unknown; a tensor is missing or has the wrong shape or type.</exception>
    public static Checkpoint Open(string folder)
    {
        string full = Path.GetFullPath(folder);
        if (!Directory.Exists(full))
        {
            throw new CheckpointException($"There is no folder '{full}'. Give the folder of a Hugging Face checkpoint: config.json, *.safetensors and tokenizer files.");
        }

        QwenConfig config = QwenConfig.Read(full);
        Architecture architecture = Architecture.Find(config.ModelType, Path.Combine(full, "config.json"));
        Dictionary<string, SafetensorsFile> placed = Locate(full);
        Dictionary<string, CheckpointTensor> tensors = [];
        foreach (TensorSpec spec in architecture.AllTensors(config))
        {
            if (!placed.TryGetValue(spec.Name, out SafetensorsFile? file) || !file.Tensors.TryGetValue(spec.Name, out TensorEntry? entry))
            {
                throw new CheckpointException($"{full} has no tensor '{spec.Name}', which a {config.ModelType} model of this configuration needs.");
            }

            if (!entry.Shape.SequenceEqual(spec.Shape))
            {
                throw new CheckpointException($"{file.Source}: '{spec.Name}' has the shape [{string.Join(", ", entry.Shape)}], but config.json asks for [{string.Join(", ", spec.Shape)}].");
            }

            if (entry.Type == TensorType.Other)
            {
                throw new CheckpointException($"{file.Source}: '{spec.Name}' has the type {entry.TypeName}; F32, F16 or BF16 is needed.");
            }

            tensors[spec.Name] = new CheckpointTensor(file, entry);
        }

        List<SafetensorsFile> files = [.. placed.Values.Distinct().OrderBy(file => file.Source, StringComparer.Ordinal)];
        return new Checkpoint(full, config, architecture, files, tensors);
    }

    private static Dictionary<string, SafetensorsFile> Locate(string folder)
    {
        string single = Path.Combine(folder, "model.safetensors");
        string index = Path.Combine(folder, "model.safetensors.index.json");
        if (File.Exists(single))
        {
            SafetensorsFile file = SafetensorsFile.Open(single);
            return file.Tensors.Keys.ToDictionary(name => name, _ => file);
        }

        if (!File.Exists(index))
        {
            string hint = Directory.EnumerateFiles(folder, "*.bin").Any() ? " It holds .bin files, which are Python pickles and are never opened; convert them to safetensors." : "";
            throw new CheckpointException($"{folder} has neither model.safetensors nor model.safetensors.index.json.{hint}");
        }

        Dictionary<string, SafetensorsFile> shards = [];
        Dictionary<string, SafetensorsFile> placed = [];
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(index));
            if (!document.RootElement.TryGetProperty("weight_map", out JsonElement map) || map.ValueKind != JsonValueKind.Object)
            {
                throw new CheckpointException($"{index} has no weight_map.");
            }

            foreach (JsonProperty item in map.EnumerateObject())
            {
                string shard = item.Value.ValueKind == JsonValueKind.String ? item.Value.GetString()! : "";
                if (shard.Length == 0 || shard != Path.GetFileName(shard))
                {
                    throw new CheckpointException($"{index} places '{item.Name}' in '{shard}'; only plain file names beside the index are allowed.");
                }

                if (!shards.TryGetValue(shard, out SafetensorsFile? file))
                {
                    string path = Path.Combine(folder, shard);
                    file = File.Exists(path) ? SafetensorsFile.Open(path) : throw new CheckpointException($"{path} is missing, but {index} names it; download the checkpoint whole.");
                    shards[shard] = file;
                }

                placed[item.Name] = file;
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new CheckpointException($"{index} is not valid JSON: {e.Message}", e);
        }

        return placed;
    }
}
