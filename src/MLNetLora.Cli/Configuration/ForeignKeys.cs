namespace MLNetLora.Cli.Configuration;

/// <summary>A key of a peer that has no effect here.</summary>
/// <param name="Key">The key.</param>
/// <param name="Reason">Why it has none, or why it cannot be had.</param>
/// <param name="Allowed">The values with which it is let through; null for any.</param>
internal sealed record ForeignKey(string Key, string Reason, IReadOnlyList<string>? Allowed)
{
    private static readonly string[] s_off = ["", "~", "null", "false", "no", "off", "none", "0", "0.0", "[]", "{}"];

    /// <summary>All of them.</summary>
    public static IReadOnlyList<ForeignKey> All { get; } =
    [
        // How the peers' programs are run.
        .. Any("it says how Python's libraries are run", "trust_remote_code", "use_fast_tokenizer", "low_cpu_mem_usage", "offload_folder", "infer_backend",
            "print_param_status", "use_unsloth", "use_unsloth_gc", "enable_liger_kernel", "use_liger_kernel", "liger_kernel_config", "use_reentrant_gc",
            "gradient_checkpointing_kwargs", "flash_attn", "attn_implementation", "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_cache",
            "use_kv_cache", "upcast_layernorm", "upcast_lmhead_output", "torch_empty_cache_steps", "use_v1_kernels", "skip_memory_metrics", "debug",
            "quantization_device_map", "bnb_4bit_quant_storage", "full_determinism", "activation_offloading", "padding_free", "pad_to_multiple_of",
            "use_peft", "lora_task_type", "task_type", "peft_type", "peft_version", "inference_mode", "auto_mapping", "base_model_class", "revision",
            "fan_in_fan_out", "megatron_core", "runtime_config", "pissa_iter", "pissa_convert", "device_map", "restore_callback_states_from_checkpoint"),
        .. Any("one process reads the rows and trains", "preprocessing_num_workers", "preprocessing_batch_size", "dataloader_num_workers",
            "dataloader_pin_memory",
            "dataloader_persistent_workers", "dataloader_prefetch_factor", "dataset_num_proc", "ddp_timeout", "ddp_find_unused_parameters", "ddp_bucket_cap_mb",
            "ddp_broadcast_buffers", "ddp_backend", "local_rank", "average_tokens_across_devices", "log_on_each_node", "save_on_each_node",
                "accelerator_config",
            "ray_num_workers", "data_shared_file_system", "eval_use_gather_object", "master_addr", "master_port"),
        .. Any("rows are read and tokenized anew in each run", "overwrite_cache", "cache_dir", "streaming", "buffer_size", "remove_unused_columns",
            "label_names", "length_column_name", "ignore_pad_token_for_loss", "media_dir"),
        .. Any("each step is in the log", "log_level", "log_level_replica", "logging_strategy", "logging_first_step", "logging_nan_inf_filter", "logging_dir",
            "disable_tqdm", "include_num_input_tokens_seen", "include_effective_tokens_per_second", "include_tokens_per_second", "run_name", "project",
            "trackio_space_id", "batch_eval_metrics", "prediction_loss_only", "eval_do_concat_batches", "eval_accumulation_steps", "include_for_metrics",
            "per_device_eval_batch_size"),
        .. Any("it is about a hub, which is not written to", "hub_token", "hub_model_id", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision",
            "hf_hub_token", "ms_hub_token", "om_hub_token"),
        .. Any("the text alone is trained", "freeze_vision_tower", "freeze_multi_modal_projector", "image_max_pixels", "image_min_pixels", "video_max_pixels",
            "video_min_pixels", "video_fps", "video_maxlen"),
        .. Any("it belongs to another way of training", "pref_beta", "pref_loss", "pref_ftx", "galore_rank", "galore_target", "apollo_rank", "apollo_target",
            "badam_mode", "freeze_trainable_layers", "freeze_trainable_modules", "oft_rank", "oft_target", "loraplus_lr_embedding"),
        .. Any("there is one adapter folder", "create_new_adapter"),
        .. Any("the loss is drawn in any case", "plot_loss"),
        .. Any("checkpoints are safetensors and can be gone on from", "enable_jit_checkpoint", "save_safetensors"),
        Only("report_to", "the output folder has the logs: metrics.jsonl, runs/ for TensorBoard, run.html", "none", "tensorboard", "all", ""),
        Only("do_train", "the command says what is done", "true", "True", "yes"),
        Only("stage", "supervised fine-tuning is what is done here: sft, or pt with documents", "sft", "pt"),
        Only("template", "the checkpoint's own chat template is used", "qwen", "qwen3", "qwen3_nothink", "qwen3_5", "qwen3_5_nothink", "default"),
        Only("truncation_mode", "rows are cut at their end", "keep_start"),
        Only("packing_strategy", "rows are packed whole, the longest first", "bfd", "ffd"),
        Only("mix_strategy", "data sets are read one behind the other", "concat"),
        Only("num_beams", "one answer is followed", "1"),
        Only("length_penalty", "it is for beams", "1", "1.0"),
        Only("dataset_text_field", "documents are in text", "text"),
        Only("loss_type", "the loss is the tokens' cross-entropy", "nll", "chunked_nll"),

        // What would change the result and is not there.
        .. Off("one process on one device trains", "deepspeed", "fsdp", "fsdp_config", "parallelism_config", "tpu_num_cores", "ray_init_kwargs", "use_mca",
            "use_megatron_bridge", "use_hyper_parallel", "use_kt", "megatron_config"),
        .. Off("there is no such optimizer here", "use_galore", "use_apollo", "use_badam", "use_adam_mini", "use_muon", "optim_args", "optim_target_modules",
            "lr_scheduler_kwargs"),
        .. Off("there is no such loss here", "label_smoothing_factor", "use_dft_loss", "use_asft_loss", "use_eaft_loss", "neftune_noise_alpha",
            "moe_aux_loss_coef"),
        .. Off("there is no such adapter here", "lora_bias", "alora_invocation_tokens", "layer_replication", "use_qalora", "use_bdlora", "arrow_config",
            "kasa_config",
            "velora_config", "monteclora_config", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "ensure_weight_tying", "use_llama_pro"),
        .. Off("the model stays as it is", "resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens_config", "split_special_tokens",
            "rope_scaling",
            "shift_attn", "mixture_of_depths", "train_from_scratch", "fp8", "block_diag_attn", "chat_template_path", "eos_token", "pad_token"),
        .. Off("every row counts", "dataloader_drop_last", "auto_find_batch_size", "interleave_probs", "eval_on_each_dataset"),
        .. Off("the command generate answers rows", "do_predict", "predict_with_generate"),
        .. Off("the loss alone is measured during training", "compute_accuracy", "eval_on_start", "eval_delay"),
        .. Off("a checkpoint can be gone on from; its adapter alone takes the smaller part of it", "save_only_model"),
        .. Off("a run goes on with the rows that it has not seen", "ignore_data_skip"),
        Only("metric_for_best_model", "the best step is the one with the lowest validation loss", "loss", "eval_loss", ""),
        Only("greater_is_better", "the best step is the one with the lowest validation loss", "false", ""),
        .. Off("nothing is written to a hub", "push_to_hub"),
        .. Off("results are not sent anywhere", "use_swanlab"),
        .. Off("tokenized rows are not kept", "tokenized_path"),
    ];

    /// <summary>Whether a value lets it through.</summary>
    public bool Allows(ConfigValue value) => Allowed is null || value.IsNull || value switch
    {
        ScalarValue scalar => Allowed.Contains(scalar.Text, StringComparer.OrdinalIgnoreCase),
        ListValue list when list.Items.Count > 0 => list.Items.All(item => item is ScalarValue && Allows(item)),
        ListValue { Items.Count: 0 } or MapValue { Items.Count: 0 } => Allowed == s_off,
        _ => false,
    };

    /// <summary>The values that are let through, for messages and the documentation.</summary>
    public string Accepts => Allowed is null ? "any value" : Allowed == s_off ? "only what switches it off"
        : $"only {Values.Choices(Allowed.Distinct(StringComparer.OrdinalIgnoreCase))}";

    private static IEnumerable<ForeignKey> Any(string reason, params string[] keys) => keys.Select(key => new ForeignKey(key, reason, null));

    private static IEnumerable<ForeignKey> Off(string reason, params string[] keys) => keys.Select(key => new ForeignKey(key, reason, s_off));

    private static ForeignKey Only(string key, string reason, params string[] allowed) => new(key, reason, allowed);
}
