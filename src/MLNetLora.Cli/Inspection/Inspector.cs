using System.IO.Compression;
using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Inspection;

/// <summary>Looks at files, reads headers alone, and says what they are. Nothing of them is trusted.</summary>
internal static class Inspector
{
    private const int LongestJson = 32 << 20;

    /// <summary>What lies under a path.</summary>
    /// <exception cref="MLNetLoraException">It is nothing that is known, or damaged.</exception>
    public static JsonObject Look(string path)
    {
        if (File.Exists(path) && path.EndsWith(".zip", StringComparison.OrdinalIgnoreCase))
        {
            return Zip(path);
        }

        return Directory.Exists(path) && File.Exists(Path.Combine(path, LoraAdapter.ConfigName)) && !File.Exists(Path.Combine(path, QwenConfig.FileName))
            ? Adapter(path)
            : Model(ModelFolder.Find(path));
    }

    private static JsonObject Model(string folder)
    {
        Checkpoint checkpoint = Checkpoint.Open(folder);
        QwenConfig config = checkpoint.Config;
        JsonObject model = new()
        {
            ["kind"] = "checkpoint",
            ["folder"] = checkpoint.Folder,
            ["model_type"] = config.ModelType,
            ["parameters"] = checkpoint.ParameterCount,
            ["layers"] = config.NumHiddenLayers,
            ["hidden_size"] = config.HiddenSize,
            ["intermediate_size"] = config.IntermediateSize,
            ["attention_heads"] = config.NumAttentionHeads,
            ["key_value_heads"] = config.NumKeyValueHeads,
            ["head_dim"] = config.HeadDim,
            ["vocabulary_size"] = config.VocabSize,
            ["context"] = config.ContextLength,
            ["tied_embeddings"] = config.TieWordEmbeddings,
        };
        if (config.Experts is { } experts)
        {
            model["experts"] = new JsonObject { ["count"] = experts.Count, ["per_token"] = experts.PerToken };
        }

        if (checkpoint.ParameterCount != checkpoint.TextParameterCount)
        {
            model["text_parameters"] = checkpoint.TextParameterCount;
        }

        model["types"] = Types(checkpoint.Tensors.Values.Select(tensor => tensor.Entry));
        model["files"] = new JsonArray([.. checkpoint.Files.Select(file =>
            (JsonNode)new JsonObject { ["file"] = Path.GetFileName(file.Source), ["bytes"] = new FileInfo(RealPath.Of(file.Source)).Length })]);
        model["lora_sites"] = Sites(checkpoint.Architecture.Linears(config));
        return model;
    }

    private static JsonObject Adapter(string folder)
    {
        string path = Path.Combine(folder, LoraAdapter.ConfigName);
        byte[] config = BoundedFile.Read(path, LongestJson) is { } bytes ? bytes.ToArray() : throw new AdapterException($"{path} is too long.");
        SafetensorsFile weights = SafetensorsFile.Open(Path.Combine(folder, LoraAdapter.WeightsName));
        JsonObject adapter = new() { ["kind"] = "adapter", ["folder"] = Path.GetFullPath(folder) };
        Describe(adapter, config, weights, path);
        PromptSettings prompt = PromptSettings.Load(folder);
        if (prompt != new PromptSettings())
        {
            adapter["prompt"] = new JsonObject
            {
                ["system_prompt"] = prompt.SystemPrompt,
                ["prompt_template"] = prompt.PromptTemplate,
                ["enable_thinking"] = prompt.EnableThinking,
            };
        }

        return adapter;
    }

    private static JsonObject Zip(string path)
    {
        using FileStream stream = File.OpenRead(path);
        using ZipArchive archive = Open(stream, path);
        string record = ZipParts.Entries(archive).Select(entry => entry.FullName.Replace('\\', '/'))
            .FirstOrDefault(name => name.EndsWith($"/{ModelZip.RecordName}", StringComparison.Ordinal))
            ?? throw new AdapterException($"{path} holds no model of this library.");
        ZipParts parts = new(archive, record[..record.LastIndexOf('/')]);
        JsonObject json = Object(parts.Bytes(ModelZip.RecordName, LongestJson), $"{path}/{ModelZip.RecordName}");
        JsonObject? model = json["base"] as JsonObject;
        JsonObject zip = new()
        {
            ["kind"] = "model zip",
            ["file"] = Path.GetFullPath(path),
            ["format"] = json["format"]?.DeepClone(),
            ["base"] = model?["location"]?.DeepClone(),
            ["base_folder"] = model?["absolute_path"]?.DeepClone(),
            ["weight_precision"] = json["weight_precision"]?.DeepClone(),
            ["prompt"] = json["prompt"]?.DeepClone(),
            ["generation"] = json["generation"]?.DeepClone(),
        };
        if (json["has_adapter"] is not JsonValue has || has.GetValueKind() != JsonValueKind.False)
        {
            byte[] config = parts.Bytes(ModelZip.AdapterConfigName, LongestJson);
            SafetensorsFile weights = parts.Read(ModelZip.AdapterWeightsName, long.MaxValue, (content, length) =>
            {
                SafetensorsFile header = SafetensorsFile.Read(content, length, $"{path}/{ModelZip.AdapterWeightsName}");
                content.CopyTo(Stream.Null); // its checksum is looked at
                return header;
            });
            Describe(zip, config, weights, $"{path}/{ModelZip.AdapterConfigName}");
        }

        return zip;
    }

    private static void Describe(JsonObject found, byte[] config, SafetensorsFile weights, string source)
    {
        JsonObject json = Object(config, source);
        foreach (string key in (string[])["base_model_name_or_path", "peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "target_parameters",
            "use_rslora",
            "use_dora", "bias", "modules_to_save", "trainable_token_indices", "layers_to_transform", "rank_pattern", "alpha_pattern"])
        {
            if (json[key] is { } value && value is not (JsonObject { Count: 0 } or JsonArray { Count: 0 }))
            {
                found[key] = value.DeepClone();
            }
        }

        found["parameters"] = weights.Tensors.Values.Sum(tensor => tensor.Count);
        found["types"] = Types(weights.Tensors.Values);
        found["adapted"] = Adapted(weights);
    }

    /// <summary>The adapted layers by the last part of their names, with their ranks.</summary>
    private static JsonArray Adapted(SafetensorsFile weights)
    {
        const string end = ".lora_A.weight";
        return new JsonArray([.. weights.Tensors.Values.Where(tensor => tensor.Name.EndsWith(end, StringComparison.Ordinal) && tensor.Shape.Count == 2)
            .GroupBy(tensor => (Last(tensor.Name[..^end.Length]), tensor.Shape[0]))
            .Select(group => (JsonNode)new JsonObject { ["module"] = group.Key.Item1, ["count"] = group.Count(), ["rank"] = group.Key.Item2 })]);
    }

    private static JsonArray Sites(IEnumerable<LinearModule> modules) => new([.. modules
        .GroupBy(module => (Name: Last(module.Name), module.In, module.Out))
        .Select(group => (JsonNode)new JsonObject
        {
            ["module"] = group.Key.Name,
            ["count"] = group.Count(),
            ["in"] = group.Key.In,
            ["out"] = group.Key.Out,
            ["parameters_at_rank_1"] = (long)group.Count() * (group.Key.In + group.Key.Out),
        })]);

    private static JsonArray Types(IEnumerable<TensorEntry> tensors) => new([.. tensors.GroupBy(tensor => tensor.TypeName)
        .Select(group => (JsonNode)new JsonObject
        {
            ["type"] = group.Key,
            ["tensors"] = group.Count(),
            ["parameters"] = group.Sum(tensor => tensor.Count),
            ["bytes"] = group.Sum(tensor => tensor.Length),
        })]);

    private static string Last(string name) => name[(name.LastIndexOf('.') + 1)..];

    private static JsonObject Object(byte[] json, string source)
    {
        try
        {
            RequireText(json);
            return JsonNode.Parse(json, documentOptions: new JsonDocumentOptions { AllowDuplicateProperties = false }) as JsonObject
                ?? throw new AdapterException($"{source} is no JSON object.");
        }
        catch (JsonException e)
        {
            throw new AdapterException($"{source} is not JSON: {e.Message}", e);
        }
        catch (InvalidOperationException e)
        {
            throw new AdapterException($"{source} holds half of a character, or bytes that are not UTF-8: it is damaged.", e);
        }
    }

    /// <summary>Reads every text once: nodes do so only when they are asked for it.</summary>
    private static void RequireText(byte[] json)
    {
        Utf8JsonReader reader = new(json);
        while (reader.Read())
        {
            _ = reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName ? reader.GetString() : null;
        }
    }

    private static ZipArchive Open(Stream stream, string path)
    {
        try
        {
            return new ZipArchive(stream, ZipArchiveMode.Read, leaveOpen: true);
        }
        catch (InvalidDataException e)
        {
            throw new AdapterException($"{path} is not a zip: {e.Message}", e);
        }
    }
}
