using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Checkpoints;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>adapter_config.json: PEFT's published keys in and out. Only the common set is written, so that old PEFT versions read it too.</summary>
internal static class PeftConfig
{
    /// <summary>Keys that are read above, and those that change nothing of a trained adapter: what it was started with, where it came from.</summary>
    private static readonly HashSet<string> s_known =
    [
        "alora_invocation_tokens", "alpha_pattern", "arrow_config", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
        "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layer_replication", "layers_pattern",
        "layers_to_transform", "loftq_config", "lora_alpha", "lora_bias", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core",
        "modules_to_save", "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config", "target_modules",
        "target_parameters", "task_type", "trainable_token_indices", "use_bdlora", "use_dora", "use_qalora", "use_rslora",
    ];

    private static readonly JsonSerializerOptions Indented = new()
    {
        WriteIndented = true,
        IndentSize = 2,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Writes the options as PEFT writes them: keys sorted, two spaces, "all-linear" spelled out (a string there forbids
    /// layers_to_transform).</summary>
    public static string Write(LoraOptions options, string baseModel, IEnumerable<LoraModule> modules)
    {
        HubId? id = HubId.TryParse(baseModel, out HubId parsed) && !Directory.Exists(baseModel) ? parsed : null;
        string[] names = options.TargetModules.IsAllLinear ? [.. Names(modules).Distinct().Order(StringComparer.Ordinal)] : [.. options.TargetModules];
        JsonObject json = new()
        {
            ["alpha_pattern"] = new JsonObject(options.AlphaPattern.Select(item => KeyValuePair.Create(item.Key, (JsonNode?)Number(item.Value)))),
            ["base_model_name_or_path"] = id?.Name ?? baseModel,
            ["bias"] = options.Bias switch { LoraBias.All => "all", LoraBias.LoraOnly => "lora_only", _ => "none" },
            ["exclude_modules"] = options.ExcludeModules is null ? null : Modules(options.ExcludeModules, [.. options.ExcludeModules]),
            ["fan_in_fan_out"] = false,
            ["inference_mode"] = true,
            ["init_lora_weights"] = true,
            ["layers_pattern"] = options.LayersPattern.Count == 0 ? null : new JsonArray([.. options.LayersPattern.Select(name => (JsonNode)name)]),
            ["layers_to_transform"] = options.LayersToTransform is null ? null : new JsonArray([.. options.LayersToTransform.Select(layer => (JsonNode)layer)]),
            ["lora_alpha"] = Number(options.Alpha),
            ["lora_dropout"] = options.Dropout,
            ["modules_to_save"] = options.ModulesToSave.Count == 0 ? null : new JsonArray([.. options.ModulesToSave.Select(name => (JsonNode)name)]),
            ["peft_type"] = "LORA",
            ["r"] = options.Rank,
            ["rank_pattern"] = new JsonObject(options.RankPattern.Select(item => KeyValuePair.Create(item.Key, (JsonNode?)item.Value))),
            ["revision"] = id?.Revision,
            ["target_modules"] = Modules(options.TargetModules, names),
            ["target_parameters"] = new JsonArray([.. options.TargetParameters.Select(name => (JsonNode)name)]),
            ["task_type"] = "CAUSAL_LM",
            ["trainable_token_indices"] = new JsonArray([.. options.TrainableTokenIndices.Select(id => (JsonNode)id)]),
            ["use_dora"] = options.UseDora,
            ["use_rslora"] = options.UseRsLora,
        };
        if (id?.Revision is null)
        {
            json.Remove("revision"); // the main branch
        }

        if (options.ExcludeModules is null)
        {
            json.Remove("exclude_modules"); // which PEFT has since 0.14
        }

        if (options.TargetParameters.Count == 0)
        {
            json.Remove("target_parameters"); // since 0.17
        }

        if (options.TrainableTokenIndices.Count == 0)
        {
            json.Remove("trainable_token_indices"); // since 0.15
        }

        return json.ToJsonString(Indented) + "\n";
    }

    /// <summary>Reads options; refuses what would be computed wrongly if it were ignored.</summary>
    /// <param name="text">The file.</param>
    /// <param name="source">What error messages call it.</param>
    /// <param name="architecture">The base's family, whose layers are meant where none are named.</param>
    public static (LoraOptions Options, string BaseModel) Read(string text, string source, Architecture architecture)
    {
        JsonObject json;
        try
        {
            json = JsonNode.Parse(text, documentOptions: new JsonDocumentOptions { MaxDepth = 32 }) as JsonObject
                ?? throw new AdapterException($"{source} is not a JSON object.");
        }
        catch (Exception e) when (e is JsonException or ArgumentException)
        {
            throw new AdapterException($"{source} is not valid JSON: {e.Message}", e);
        }

        try
        {
            string kind = Text(json, "peft_type") ?? throw new AdapterException($"{source} has no peft_type; it is not a PEFT adapter.");
            if (kind != "LORA")
            {
                throw new AdapterException($"{source}: peft_type is '{kind}'; only LORA is supported.");
            }

            Refuse(json, source, "lora_bias", node => node.GetValue<bool>(), "a bias on lora_B");
            Refuse(json, source, "fan_in_fan_out", node => node.GetValue<bool>(), "transposed base weights");
            Refuse(json, source, "init_lora_weights",
                node => node is JsonValue value && value.TryGetValue(out string? init) && init is not ("gaussian" or "eva" or "orthogonal"),
                $"the initialization {json["init_lora_weights"]}, which changes the base weights (PEFT can convert such an adapter to plain LoRA when it saves "
                + "it)");
            Refuse(json, source, "use_bdlora", node => node is JsonObject or JsonValue, "block-diagonal LoRA");
            Refuse(json, source, "use_qalora", node => node.GetValue<bool>(), "QA-LoRA");
            Refuse(json, source, "layer_replication", node => node is JsonArray { Count: > 0 }, "replicated layers");
            Refuse(json, source, "alora_invocation_tokens", node => node is JsonArray { Count: > 0 }, "activated LoRA");
            Refuse(json, source, "arrow_config", node => node is JsonObject or JsonValue, "a router of several adapters (Arrow)");
            RefuseUnknown(json, source);
            LoraOptions options = new()
            {
                Rank = json["r"]?.GetValue<int>() ?? 8,
                Alpha = json["lora_alpha"]?.GetValue<double>() ?? 8,
                Dropout = json["lora_dropout"]?.GetValue<double>() ?? 0,
                UseRsLora = json["use_rslora"]?.GetValue<bool>() ?? false,
                UseDora = json["use_dora"]?.GetValue<bool>() ?? false,
                TargetModules = Modules(json, "target_modules")
                    ?? TargetModules.Create(json["target_parameters"] is JsonArray { Count: > 0 } ? [] : [.. architecture.DefaultTargets]),
                TargetParameters = [.. (json["target_parameters"]?.AsArray() ?? []).Select(item => item!.GetValue<string>())],
                ExcludeModules = Modules(json, "exclude_modules"),
                Bias = Text(json, "bias") switch
                {
                    null or "none" => LoraBias.None,
                    "all" => LoraBias.All,
                    "lora_only" => LoraBias.LoraOnly,
                    { } other => throw new FormatException($"bias is '{other}'; PEFT knows none, all and lora_only."),
                },
                ModulesToSave = [.. (json["modules_to_save"]?.AsArray() ?? []).Select(item => item!.GetValue<string>())],
                TrainableTokenIndices = TokenIndices(json, source, architecture),
                LayersPattern = json["layers_pattern"] switch
                {
                    JsonArray list => [.. list.Select(item => item!.GetValue<string>())],
                    JsonValue one when one.GetValue<string>() is { Length: > 0 } name => [name],
                    JsonValue or null => [],
                    _ => throw new FormatException("layers_pattern is neither a list of names nor a name."),
                },
                LayersToTransform = json["layers_to_transform"] switch
                {
                    JsonArray list => [.. list.Select(item => item!.GetValue<int>())],
                    JsonValue one => [one.GetValue<int>()],
                    null => null,
                    _ => throw new FormatException("layers_to_transform is neither a list of numbers nor a number."),
                },
                RankPattern = (json["rank_pattern"]?.AsObject() ?? []).ToDictionary(item => item.Key, item => item.Value!.GetValue<int>()),
                AlphaPattern = (json["alpha_pattern"]?.AsObject() ?? []).ToDictionary(item => item.Key, item => item.Value!.GetValue<double>()),
            };
            options.Validate();
            string baseModel = Text(json, "base_model_name_or_path") ?? "";
            return (options, Text(json, "revision") is { } revision && HubId.TryParse($"{baseModel}@{revision}", out HubId id) ? id.ToString() : baseModel);
        }
        catch (OptionException e)
        {
            throw new AdapterException($"{source} makes no sense: {e.Message}", e);
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or NullReferenceException or ArgumentException)
        {
            string what = e is NullReferenceException ? "null stands where a value belongs." : e.Message;
            throw new AdapterException($"{source} has a value of the wrong type: {what}", e);
        }
    }

    /// <summary>A list of ids, which means the embedding, or lists by the names of modules, of which the embedding is the only one here.</summary>
    private static IReadOnlyList<int> TokenIndices(JsonObject json, string source, Architecture architecture)
    {
        switch (json["trainable_token_indices"])
        {
            case null or JsonObject { Count: 0 }:
                return [];
            case JsonArray list:
                return [.. list.Select(item => item!.GetValue<int>())];
            case JsonObject { Count: 1 } one when architecture.EmbeddingName.EndsWith(one.Single().Key, StringComparison.Ordinal):
                return [.. one.Single().Value!.AsArray().Select(item => item!.GetValue<int>())];
            case JsonObject many:
                throw new AdapterException($"{source}: trainable_token_indices names {string.Join(", ", many.Select(item => item.Key))}; rows of the embedding "
                    + $"({architecture.EmbeddingName}) can be trained, those of other modules cannot.");
            default:
                throw new FormatException("trainable_token_indices is neither a list of ids nor lists by module.");
        }
    }

    /// <summary>What layers are called in a list; experts by the names that they had as layers, which mean them there too.</summary>
    private static IEnumerable<string> Names(IEnumerable<LoraModule> modules) => modules.SelectMany(
        module => module.Parameter?.Named ?? [module.Module.Name[(module.Module.Name.LastIndexOf('.') + 1)..]]);

    /// <summary>A list of names, or the expression.</summary>
    private static JsonNode Modules(TargetModules modules, string[] names) => modules is { Pattern: string pattern, IsAllLinear: false }
        ? pattern
        : new JsonArray([.. names.Select(name => (JsonNode)name)]);

    private static TargetModules? Modules(JsonObject json, string key) => json[key] switch
    {
        JsonArray { Count: 0 } when key == "exclude_modules" => null,
        JsonArray list => TargetModules.Create([.. list.Select(item => item!.GetValue<string>())]),
        JsonValue value when key == "exclude_modules" && value.GetValue<string>().Length == 0 => null,
        JsonValue value => value.GetValue<string>(),
        null => null,
        _ => throw new FormatException($"{key} is neither a list of names nor an expression."),
    };

    /// <summary>Refuses a key that this version does not know and that is set to something: what it asks for would be left out without a word.</summary>
    private static void RefuseUnknown(JsonObject json, string source)
    {
        foreach ((string key, JsonNode? value) in json)
        {
            bool isOff = value is null or JsonArray { Count: 0 } or JsonObject { Count: 0 }
                || (value is JsonValue single && ((single.TryGetValue(out bool flag) && !flag) || (single.TryGetValue(out string? text) && text.Length == 0)));
            if (!isOff && !s_known.Contains(key))
            {
                throw new AdapterException($"{source}: {key} is set, and this version does not know what it asks for; the adapter might give wrong answers "
                    + "without it.");
            }
        }
    }

    private static JsonValue Number(double value) =>
        value == Math.Truncate(value) && Math.Abs(value) < 1e9 ? JsonValue.Create((long)value) : JsonValue.Create(value);

    private static string? Text(JsonObject json, string key) => json[key]?.GetValue<string>();

    private static void Refuse(JsonObject json, string source, string key, Func<JsonNode, bool> set, string what)
    {
        if (json[key] is JsonNode node && set(node))
        {
            throw new AdapterException(
                $"{source}: {key} asks for {what}, which this version does not support; the adapter would give wrong answers without it.");
        }
    }
}
