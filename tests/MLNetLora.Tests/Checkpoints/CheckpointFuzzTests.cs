using System.Text.Json.Nodes;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Tests.Text;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Checkpoints of every family, quantized ones too, and adapters with something changed: they open and build their graphs, or fail with a typed
/// error.</summary>
public sealed class CheckpointFuzzTests : IDisposable
{
    private static readonly Func<JsonNode?>[] s_values =
    [
        () => null, () => 0, () => -1, () => 1, () => 3, () => int.MaxValue, () => long.MaxValue, () => 1e300, () => 0.5, () => -0.0, () => "", () => "mlp",
        () => true, () => false, () => new JsonArray(), () => new JsonArray(1, null, "x"), () => new JsonObject(), () => new JsonObject { ["a"] = 1 },
    ];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Fields_of_config_json()
    {
        string[] models = [.. Golden.Folders("models")];
        int opened = 0;
        int cases = Fuzz.Cases(300);
        for (int seed = 0; seed < cases; seed++)
        {
            Random random = new(seed);
            string folder = Copy(models[random.Next(models.Length)]);
            string path = Path.Combine(folder, QwenConfig.FileName);
            JsonObject config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
            for (int changes = random.Next(1, 3); changes > 0; changes--)
            {
                Change(config, random);
            }

            File.WriteAllText(path, config.ToJsonString());
            opened += Fuzz.Survives(Path.GetFileName(folder), seed, File.ReadAllBytes(path), () => Use(folder)) ? 1 : 0;
        }

        Assert.InRange(opened, 1, cases - 1);
    }

    [Fact]
    public void Bytes_of_quantized_weights()
    {
        string[] models = [.. Golden.Folders("models").Where(folder => Path.GetFileName(folder).Contains("-bnb-", StringComparison.Ordinal))];
        if (models.Length == 0)
        {
            return; // the set in the repository has none
        }

        int opened = 0;
        int cases = Fuzz.Cases(300);
        for (int seed = 0; seed < cases; seed++)
        {
            Random random = new(seed);
            string folder = Copy(models[random.Next(models.Length)], withWeights: true);
            string path = Directory.EnumerateFiles(folder, "*.safetensors").First();
            byte[] bytes = File.ReadAllBytes(path);
            int header = (int)BitConverter.ToInt64(bytes) + 8;
            for (int changes = random.Next(1, 4); changes > 0; changes--)
            {
                bytes[random.Next(2) == 0 ? random.Next(header) : random.Next(bytes.Length)] = (byte)random.Next(256);
            }

            File.WriteAllBytes(path, bytes);
            opened += Fuzz.Survives(Path.GetFileName(folder), seed, bytes[..header], () => Use(folder)) ? 1 : 0;
        }

        Assert.InRange(opened, 1, cases - 1);
    }

    [Fact]
    public void Fields_of_adapter_config_json()
    {
        (string Model, string Adapter)[] adapters = [.. Golden.Folders("gradients").SelectMany(model => Directory.EnumerateDirectories(model)
            .Select(variant => (GoldenFile.Json(Path.Combine(variant, "case.json")).GetProperty("model").GetString()!, Path.Combine(variant, "adapter")))
            .Select(item => (Golden.Beside(model, item.Item1), item.Item2))).Where(item => GoldenFile.Unsupported(item.Item1) is null)];
        int loaded = 0;
        int cases = Fuzz.Cases(300);
        for (int seed = 0; seed < cases; seed++)
        {
            Random random = new(seed);
            (string model, string adapter) = adapters[random.Next(adapters.Length)];
            string folder = Copy(adapter);
            string path = Path.Combine(folder, "adapter_config.json");
            JsonObject config = JsonNode.Parse(File.ReadAllText(path))!.AsObject();
            Change(config, random);
            File.WriteAllText(path, config.ToJsonString());
            loaded += Fuzz.Survives(adapter, seed, File.ReadAllBytes(path), () =>
            {
                Checkpoint checkpoint = Checkpoint.Open(model);
                LoraAdapter read = LoraAdapter.LoadPeft(folder, checkpoint);
                TrainingModel.Training(TrainingTarget.Lora(checkpoint, read.Options), checkpointing: false, ChunkPlan.Whole);
            }) ? 1 : 0;
        }

        Assert.InRange(loaded, 1, cases - 1);
    }

    /// <summary>Opens a checkpoint, reads what is quantized in it, builds its graphs.</summary>
    private static void Use(string folder)
    {
        Checkpoint checkpoint = Checkpoint.Open(folder);
        foreach (CheckpointTensor tensor in checkpoint.Tensors.Values.Where(tensor => tensor.FourBit is not null))
        {
            tensor.ReadFloat32();
        }

        TrainingTarget target = TrainingTarget.Lora(checkpoint, new LoraOptions { Rank = 2, TargetModules = "all-linear" });
        TrainingModel.Training(target, checkpointing: true, ChunkPlan.Whole);
        InferenceModel.Build(checkpoint, new AdapterParts(target.Loras, [], null));
    }

    /// <summary>Replaces, removes or adds a field, in an object inside now and then.</summary>
    private static void Change(JsonObject config, Random random)
    {
        KeyValuePair<string, JsonNode?>[] fields = [.. config];
        (string name, JsonNode? value) = fields[random.Next(fields.Length)];
        if (value is JsonObject { Count: > 0 } inner && random.Next(4) > 0)
        {
            Change(inner, random);
        }
        else if (random.Next(8) == 0)
        {
            config.Remove(name);
        }
        else
        {
            config[name] = value is JsonArray { Count: > 0 } list && random.Next(2) == 0
                ? new JsonArray([.. list.Select(item => random.Next(3) == 0 ? s_values[random.Next(s_values.Length)]() : item?.DeepClone())])
                : s_values[random.Next(s_values.Length)]();
        }
    }

    /// <summary>A folder with the same files; weights are links, since nothing is written to them.</summary>
    private string Copy(string from, bool withWeights = false)
    {
        string folder = _folder.File("case");
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }

        Directory.CreateDirectory(folder);
        foreach (string file in Directory.EnumerateFiles(from))
        {
            string to = Path.Combine(folder, Path.GetFileName(file));
            if (withWeights || !file.EndsWith(".safetensors", StringComparison.Ordinal))
            {
                File.Copy(file, to);
            }
            else
            {
                File.CreateSymbolicLink(to, file);
            }
        }

        return folder;
    }
}
