using System.Text.Json.Nodes;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Tests.Models;

/// <summary>Mixtures of experts of a few thousand random numbers.</summary>
internal static class MixtureModel
{
    /// <summary>Writes config.json with some fields changed; null takes one out.</summary>
    public static string WriteConfig(string folder, string modelType = "qwen3_moe", params (string Field, JsonNode? Value)[] changes)
    {
        TinyModel.WriteConfig(folder, modelType, tied: false, layers: 3);
        string path = Path.Combine(folder, QwenConfig.FileName);
        JsonObject config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
        config["mlp_only_layers"] = new JsonArray(1);
        foreach ((string field, JsonNode? value) in changes)
        {
            config.Remove(field);
            if (value is not null)
            {
                config[field] = value;
            }
        }

        File.WriteAllText(path, config.ToJsonString());
        return folder;
    }

    /// <summary>Writes a whole checkpoint.</summary>
    public static Checkpoint Write(string folder, string modelType = "qwen3_moe", params (string Field, JsonNode? Value)[] changes)
    {
        WriteConfig(folder, modelType, changes);
        return TinyModel.WriteWeights(folder);
    }

    /// <summary>The tensors of a checkpoint in another order, in several files, in other types.</summary>
    /// <param name="from">The checkpoint.</param>
    /// <param name="folder">Where to.</param>
    /// <param name="place">File and type of each tensor, by its name and number in the order of the forward pass; tensors of a file come in the order of the
    /// third.</param>
    public static Checkpoint Rearrange(Checkpoint from, string folder, Func<string, int, (string File, TensorType Type, int Order)> place)
    {
        Directory.CreateDirectory(folder);
        File.Copy(Path.Combine(from.Folder, QwenConfig.FileName), Path.Combine(folder, QwenConfig.FileName));
        var placed = from.Tensors.Values.Select((tensor, i) => (Tensor: tensor, Place: place(tensor.Entry.Name, i))).ToArray();
        JsonObject map = [];
        foreach (var file in placed.GroupBy(item => item.Place.File))
        {
            SafetensorsWriter.Write(Path.Combine(folder, file.Key), [.. file.OrderBy(item => item.Place.Order).Select(item =>
                SafetensorsWriter.Item.From(item.Tensor.Entry.Name, item.Place.Type, item.Tensor.Entry.Shape, item.Tensor.ReadFloat32()))]);
            foreach (var item in file)
            {
                map[item.Tensor.Entry.Name] = file.Key;
            }
        }

        File.WriteAllText(Path.Combine(folder, "model.safetensors.index.json"), new JsonObject { ["weight_map"] = map }.ToJsonString());
        return Checkpoint.Open(folder);
    }
}
