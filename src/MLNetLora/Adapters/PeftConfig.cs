using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Models;

namespace MLNetLora.Adapters;

/// <summary>adapter_config.json: PEFT's published keys in and out. Only the common set is written, so that old PEFT versions read it too.</summary>
internal static class PeftConfig
{
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
        string[] names = options.TargetModules.IsAllLinear
            ? [.. modules.Select(module => module.Module.Name[(module.Module.Name.LastIndexOf('.') + 1)..]).Distinct().Order(StringComparer.Ordinal)]
            : [.. options.TargetModules];
        JsonObject json = new()
        {
            ["alpha_pattern"] = new JsonObject(options.AlphaPattern.Select(item => KeyValuePair.Create(item.Key, (JsonNode?)Number(item.Value)))),
            ["base_model_name_or_path"] = baseModel,
            ["bias"] = "none",
            ["fan_in_fan_out"] = false,
            ["inference_mode"] = true,
            ["init_lora_weights"] = true,
            ["layers_pattern"] = null,
            ["layers_to_transform"] = options.LayersToTransform is null ? null : new JsonArray([.. options.LayersToTransform.Select(layer => (JsonNode)layer)]),
            ["lora_alpha"] = Number(options.Alpha),
            ["lora_dropout"] = options.Dropout,
            ["modules_to_save"] = null,
            ["peft_type"] = "LORA",
            ["r"] = options.Rank,
            ["rank_pattern"] = new JsonObject(options.RankPattern.Select(item => KeyValuePair.Create(item.Key, (JsonNode?)item.Value))),
            ["target_modules"] = options.TargetModules is { Pattern: string pattern, IsAllLinear: false }
                ? pattern
                : new JsonArray([.. names.Select(name => (JsonNode)name)]),
            ["task_type"] = "CAUSAL_LM",
            ["use_dora"] = false,
            ["use_rslora"] = options.UseRsLora,
        };
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

            Refuse(json, source, "use_dora", node => node.GetValue<bool>(), "DoRA");
            Refuse(json, source, "bias", node => node.GetValue<string>() != "none", "trained biases");
            Refuse(json, source, "lora_bias", node => node.GetValue<bool>(), "a bias on lora_B");
            Refuse(json, source, "fan_in_fan_out", node => node.GetValue<bool>(), "transposed base weights");
            Refuse(json, source, "modules_to_save", node => node is JsonArray { Count: > 0 }, "whole modules saved with the adapter");
            Refuse(json, source, "init_lora_weights",
                node => node is JsonValue value && value.TryGetValue(out string? init) && init is not ("gaussian" or "eva" or "orthogonal"),
                $"the initialization {json["init_lora_weights"]}, which changes the base weights (PEFT can convert such an adapter to plain LoRA when it saves "
                + "it)");
            Refuse(json, source, "exclude_modules", node => node is JsonArray { Count: > 0 } or JsonValue, "modules left out");
            Refuse(json, source, "layers_pattern",
                node => node is JsonArray list ? list.Any(item => item?.GetValue<string>() != "layers") : node.GetValue<string>() is not ("layers" or ""),
                "another name for the layers");
            Refuse(json, source, "use_bdlora", node => node is JsonObject or JsonValue, "block-diagonal LoRA");
            Refuse(json, source, "use_qalora", node => node.GetValue<bool>(), "QA-LoRA");
            Refuse(json, source, "layer_replication", node => node is JsonArray { Count: > 0 }, "replicated layers");
            Refuse(json, source, "target_parameters", node => node is JsonArray { Count: > 0 }, "adapters on bare parameters");
            Refuse(json, source, "trainable_token_indices", node => node is JsonArray { Count: > 0 } or JsonObject { Count: > 0 }, "trained token embeddings");
            Refuse(json, source, "alora_invocation_tokens", node => node is JsonArray { Count: > 0 }, "activated LoRA");
            LoraOptions options = new()
            {
                Rank = json["r"]?.GetValue<int>() ?? 8,
                Alpha = json["lora_alpha"]?.GetValue<double>() ?? 8,
                Dropout = json["lora_dropout"]?.GetValue<double>() ?? 0,
                UseRsLora = json["use_rslora"]?.GetValue<bool>() ?? false,
                TargetModules = json["target_modules"] switch
                {
                    JsonArray list => TargetModules.Create([.. list.Select(item => item!.GetValue<string>())]),
                    JsonValue value => value.GetValue<string>(),
                    null => TargetModules.Create([.. architecture.DefaultTargets]),
                    _ => throw new FormatException("target_modules is neither a list of names nor an expression."),
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
            return (options, Text(json, "base_model_name_or_path") ?? "");
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
