using System.Text.Json;
using System.Text.Json.Nodes;

namespace MLNetLora.Cli.NewCheckpoint;

/// <summary>Writes config.json and generation_config.json as the published checkpoints of the family have them.</summary>
internal static class ConfigFiles
{
    private static readonly JsonSerializerOptions s_indented = new() { WriteIndented = true, NewLine = "\n" };

    public static void Write(ModelSize size, ElementType type, string folder)
    {
        if (size.Family == Family.Qwen1)
        {
            WriteQwen1(size, type, folder);
            return;
        }

        bool qwen3 = !size.IsQwen2;
        string mixture = size.Experts is null ? "" : "Moe";
        // <|endoftext|>, <|im_start|>, <|im_end|> stand at 151643 to 151645; a smaller vocabulary has them at its end.
        int endOfText = Math.Min(151643, size.VocabularySize - 3);
        int messageEnd = endOfText + 2;
        JsonObject config = new()
        {
            ["architectures"] = new JsonArray((qwen3 ? "Qwen3" : "Qwen2") + mixture + "ForCausalLM"),
            ["attention_dropout"] = 0.0,
            ["bos_token_id"] = endOfText,
            ["eos_token_id"] = messageEnd,
            ["hidden_act"] = "silu",
            ["hidden_size"] = size.HiddenSize,
            ["initializer_range"] = 0.02,
            ["intermediate_size"] = size.IntermediateSize,
            ["max_position_embeddings"] = qwen3 ? 40960 : 32768,
            ["max_window_layers"] = size.Layers,
            ["model_type"] = (qwen3 ? "qwen3" : "qwen2") + (size.Experts is null ? "" : "_moe"),
            ["num_attention_heads"] = size.Heads,
            ["num_hidden_layers"] = size.Layers,
            ["num_key_value_heads"] = size.KeyValueHeads,
            ["rms_norm_eps"] = 1e-6,
            ["rope_theta"] = 1000000.0,
            ["sliding_window"] = qwen3 ? null : 32768,
            ["tie_word_embeddings"] = size.TiedEmbeddings,
            ["torch_dtype"] = type.Torch,
            ["transformers_version"] = qwen3 ? "4.51.0" : "4.43.1",
            ["use_cache"] = true,
            ["use_sliding_window"] = false,
            ["vocab_size"] = size.VocabularySize,
        };
        if (qwen3)
        {
            config["attention_bias"] = false;
            config["head_dim"] = size.HeadDimension;
            config["rope_scaling"] = null;
        }
        if (size.Experts is { } experts)
        {
            config["decoder_sparse_step"] = 1;
            config["mlp_only_layers"] = new JsonArray();
            config["moe_intermediate_size"] = experts.IntermediateSize;
            config["norm_topk_prob"] = qwen3;
            config["num_experts"] = experts.Count;
            config["num_experts_per_tok"] = experts.PerToken;
            config["output_router_logits"] = false;
            config["router_aux_loss_coef"] = 0.001;
            if (experts.SharedIntermediateSize > 0)
            {
                config["shared_expert_intermediate_size"] = experts.SharedIntermediateSize;
            }
        }

        if (size.DeltaNet is { } d)
        {
            AddQwen35(config, size, d);
        }

        Save(folder, "config.json", config);
        Save(folder, "generation_config.json", new JsonObject
        {
            ["bos_token_id"] = endOfText,
            ["do_sample"] = false,
            ["eos_token_id"] = new JsonArray(messageEnd, endOfText),
            ["pad_token_id"] = endOfText,
        });
    }

    /// <summary>What the text_config of a published Qwen3.5 has otherwise than Qwen3, as a text checkpoint.</summary>
    private static void AddQwen35(JsonObject config, ModelSize size, DeltaNetSize d)
    {
        foreach (string field in (string[])["max_window_layers", "rope_scaling", "rope_theta", "sliding_window", "use_sliding_window"])
        {
            config.Remove(field);
        }

        config["architectures"] = new JsonArray("Qwen3_5ForCausalLM");
        config["attn_output_gate"] = true;
        config["full_attention_interval"] = 4;
        config["layer_types"] = new JsonArray(
            [.. Enumerable.Range(0, size.Layers).Select(layer => (JsonNode)(DeltaNetSize.IsOne(layer) ? "linear_attention" : "full_attention"))]);
        config["linear_conv_kernel_dim"] = d.Taps;
        config["linear_key_head_dim"] = d.HeadDimension;
        config["linear_num_key_heads"] = d.KeyHeads;
        config["linear_num_value_heads"] = d.ValueHeads;
        config["linear_value_head_dim"] = d.HeadDimension;
        config["max_position_embeddings"] = 262144;
        config["model_type"] = "qwen3_5_text";
        config["rope_parameters"] = new JsonObject
        {
            ["mrope_interleaved"] = true,
            ["mrope_section"] = new JsonArray(11, 11, 10),
            ["partial_rotary_factor"] = 0.25,
            ["rope_theta"] = 10000000,
            ["rope_type"] = "default",
        };
        config["transformers_version"] = "5.12.1";
    }

    /// <summary>As Qwen-1_8B-Chat has them, whose chat_format says that answers end with im_end.</summary>
    private static void WriteQwen1(ModelSize size, ElementType type, string folder)
    {
        int endOfText = Math.Min(151643, size.VocabularySize - 3);
        Save(folder, "config.json", new JsonObject
        {
            ["architectures"] = new JsonArray("QWenLMHeadModel"),
            ["attn_dropout_prob"] = 0.0,
            ["bf16"] = type.Torch == "bfloat16",
            ["emb_dropout_prob"] = 0.0,
            ["fp16"] = type.Torch == "float16",
            ["fp32"] = type.Torch == "float32",
            ["hidden_size"] = size.HiddenSize,
            ["initializer_range"] = 0.02,
            ["intermediate_size"] = 2 * size.IntermediateSize,
            ["kv_channels"] = size.HeadDimension,
            ["layer_norm_epsilon"] = 1e-6,
            ["max_position_embeddings"] = 8192,
            ["model_type"] = "qwen",
            ["no_bias"] = true,
            ["num_attention_heads"] = size.Heads,
            ["num_hidden_layers"] = size.Layers,
            ["rotary_emb_base"] = 10000,
            ["rotary_pct"] = 1.0,
            ["scale_attn_weights"] = true,
            ["seq_length"] = 8192,
            ["tie_word_embeddings"] = false,
            ["tokenizer_class"] = "QWenTokenizer",
            ["use_cache"] = true,
            ["use_dynamic_ntk"] = true,
            ["use_logn_attn"] = true,
            ["vocab_size"] = size.VocabularySize,
        });
        Save(folder, "generation_config.json", new JsonObject
        {
            ["chat_format"] = "chatml",
            ["do_sample"] = false,
            ["eos_token_id"] = endOfText,
            ["max_window_size"] = 6144,
            ["pad_token_id"] = endOfText,
        });
    }

    /// <summary>The index that names the file of every tensor of a sharded checkpoint.</summary>
    public static void WriteIndex(ShardPlan plan, ElementType type, string folder)
    {
        JsonObject map = [];
        foreach ((string file, IReadOnlyList<TensorSpec> tensors) in plan.Shards)
        {
            foreach (TensorSpec tensor in tensors)
            {
                map[tensor.Name] = file;
            }
        }

        long total = plan.Shards.Sum(shard => shard.Tensors.Sum(tensor => tensor.Elements * type.Size));
        Save(folder, "model.safetensors.index.json", new JsonObject { ["metadata"] = new JsonObject { ["total_size"] = total }, ["weight_map"] = map });
    }

    private static void Save(string folder, string name, JsonObject content) =>
        File.WriteAllText(Path.Combine(folder, name), content.ToJsonString(s_indented) + "\n");
}
