using MLNetLora.Cli.Configuration;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;

namespace MLNetLora.Cli.Tests;

/// <summary>What keys of PEFT, transformers and LLaMA-Factory mean, and in which order things count.</summary>
public sealed class ReaderTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("r: 8", "Rank", "8")]
    [InlineData("lora_rank: 8", "Rank", "8")]
    [InlineData("Rank: 8", "Rank", "8")]
    [InlineData("lora-alpha: 32", "Alpha", "32")]
    [InlineData("lora_target: all", "TargetModules", "all-linear")]
    [InlineData("lora_target: q_proj,v_proj,k_proj", "TargetModules", "[q_proj, v_proj, k_proj]")]
    [InlineData("additional_target: embed_tokens,lm_head", "ModulesToSave", "[embed_tokens, lm_head]")]
    [InlineData("use_rslora: true", "UseRsLora", "true")]
    [InlineData("init_lora_weights: false", "Initialization", "random")]
    [InlineData("init_lora_weights: true", "Initialization", "default")]
    [InlineData("init_lora_weights: gaussian", "Initialization", "gaussian")]
    [InlineData("init_lora_weights: pissa_niter_16", "Initialization", "pissa")]
    [InlineData("pissa_init: true", "Initialization", "pissa")]
    [InlineData("finetuning_type: full", "Method", "full")]
    [InlineData("per_device_train_batch_size: 4", "BatchSize", "4")]
    [InlineData("num_train_epochs: 3.0", "NumberOfEpochs", "3")]
    [InlineData("max_steps: 100", "MaximumSteps", "100")]
    [InlineData("max_steps: -1", "MaximumSteps", "(none)")]
    [InlineData("lr_scheduler_type: constant_with_warmup", "Schedule", "constant")]
    [InlineData("warmup_steps: 10", "WarmupSteps", "10")]
    [InlineData("warmup_steps: 0.1", "WarmupRatio", "0.1")]
    [InlineData("optim: paged_adamw_8bit", "Optimizer", "adamw_8bit")]
    [InlineData("optim: adamw_torch", "Optimizer", "adamw")]
    [InlineData("max_grad_norm: 0.3", "MaximumGradientNorm", "0.3")]
    [InlineData("adam_beta1: 0.8", "AdamBeta1", "0.8")]
    [InlineData("loraplus_lr_ratio: 16.0", "LoraPlusRatio", "16")]
    [InlineData("gradient_checkpointing: true", "ActivationCheckpointing", "true")]
    [InlineData("disable_gradient_checkpointing: false", "ActivationCheckpointing", "true")]
    [InlineData("disable_shuffling: true", "Shuffle", "false")]
    [InlineData("train_sampling_strategy: sequential", "Shuffle", "false")]
    [InlineData("use_cpu: true", "Device", "cpu")]
    [InlineData("use_cpu: false", "Device", "(none)")]
    [InlineData("cutoff_len: 1024", "MaximumSequenceLength", "1024")]
    [InlineData("max_samples: 100", "MaximumRows", "100")]
    [InlineData("val_size: 0.1", "ValidationSize", "0.1")]
    [InlineData("dataset: a,b", "Data", "[a, b]")]
    [InlineData("default_system: Be brief.", "SystemPrompt", "Be brief.")]
    [InlineData("load_in_4bit: true", "Precision", "fp4")]
    [InlineData("load_in_4bit: true\nbnb_4bit_quant_type: nf4", "Precision", "nf4")]
    [InlineData("load_in_4bit: true\nbnb_4bit_quant_type: nf4\nbnb_4bit_use_double_quant: true", "Precision", "nf4_double")]
    [InlineData("load_in_4bit: false\nbnb_4bit_quant_type: nf4", "Precision", "checkpoint")]
    [InlineData("load_in_8bit: true", "Precision", "int8")]
    [InlineData("quantization_bit: 4", "Precision", "nf4_double")]
    [InlineData("quantization_bit: 4\ndouble_quantization: false\nquantization_type: fp4\nquantization_method: bnb", "Precision", "fp4")]
    [InlineData("quantization_bit: 8", "Precision", "int8")]
    [InlineData("quantization_method: bnb", "Precision", "checkpoint")]
    [InlineData("eval_strategy: steps\neval_steps: 50", "EvaluationSteps", "50")]
    [InlineData("eval_steps: 50", "EvaluationSteps", "50")]
    [InlineData("eval_strategy: epoch\neval_steps: 50", "EvaluationSteps", "0")]
    [InlineData("val_size: 0.1\neval_strategy: \"no\"", "ValidationSize", "0")]
    [InlineData("val_size: 0.1\neval_strategy: no", "ValidationSize", "0")]
    [InlineData("save_steps: 50", "SaveSteps", "50")]
    [InlineData("save_strategy: steps\nsave_steps: 50", "SaveSteps", "50")]
    [InlineData("save_strategy: steps", "SaveSteps", "500")]
    [InlineData("save_strategy: epoch\nsave_steps: 50", "SaveSteps", "(none)")]
    [InlineData("save_strategy: epoch", "SaveEveryEpoch", "true")]
    [InlineData("save_strategy: no", "SaveSteps", "0")]
    [InlineData("early_stopping_steps: 3", "EarlyStoppingPatience", "3")]
    [InlineData("load_best_model_at_end: true", "LoadBestModelAtEnd", "true")]
    [InlineData("resume_from_checkpoint: saves/checkpoint-5", "ResumeFrom", "saves/checkpoint-5")]
    [InlineData("resume_from_checkpoint: false", "ResumeFrom", "(none)")]
    [InlineData("resume_from_checkpoint: null", "ResumeFrom", "(none)")]
    [InlineData("train_on_prompt: true", "LabelScope", "everything")]
    [InlineData("train_on_prompt: false", "LabelScope", "answer")]
    [InlineData("mask_history: false", "LabelScope", "all_assistant_turns")]
    [InlineData("assistant_only_loss: true", "LabelScope", "all_assistant_turns")]
    [InlineData("packing: true\ncutoff_len: 256", "PackingLength", "256")]
    [InlineData("neat_packing: true\npacking_length: 128", "PackingLength", "128")]
    [InlineData("do_sample: false\ntemperature: 0.7", "Temperature", "0")]
    [InlineData("do_sample: true", "Temperature", "1")]
    [InlineData("do_sample: true\ntemperature: 0.7", "Temperature", "0.7")]
    [InlineData("seed: 7\ngeneration:\n  seed: 8\n  max_new_tokens: 9", "GenerationSeed", "8")]
    [InlineData("seed: 7\ngeneration:\n  seed: 8\n  max_new_tokens: 9", "Seed", "7")]
    [InlineData("generation:\n  max_new_tokens: 9", "MaximumNewTokens", "9")]
    [InlineData("bf16: true\ndevice: cuda", "ComputeType", "bfloat16")]
    [InlineData("bf16: false\nfp16: true\ndevice: cuda", "ComputeType", "float16")]
    [InlineData("torch_dtype: auto\ndevice: cuda", "ComputeType", "(none)")]
    [InlineData("bf16: true", "ComputeType", "(none)")]
    [InlineData("rank: null", "Rank", "64")]
    public void A_key_of_the_peers_sets_what_it_means(string yaml, string setting, string expected)
    {
        SettingsReader reader = Read(yaml);
        RunSettings settings = reader.Settings();
        Assert.Equal(expected, Values.Show(SettingsTable.All.Single(other => other.Name == setting).Get(settings)));
    }

    [Theory]
    [InlineData("save_strategy", "no", 0)]
    [InlineData("save_strategy", "steps", 500)]
    [InlineData("save_steps", "0", 0)]
    public void What_is_said_of_checkpoints_later_takes_the_place_of_an_earlier_strategy(string key, string value, int steps)
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.AddFile(_folder.Write("run.yaml", "save_strategy: epoch\n"));
        reader.Add([new Given(key, new ScalarValue(value, IsQuoted: false, Place.CommandLine))]);
        QwenLoraTrainer.Options options = reader.Settings().Training;
        Assert.Equal((steps, false), (options.SaveSteps, options.SaveEveryEpoch));
    }

    [Theory]
    [InlineData("tf32: true\ndevice: cuda", true)]
    [InlineData("device: cuda", false)]
    public void A_GPU_is_told_its_options(string yaml, bool tf32) =>
        Assert.Equal(tf32, Assert.IsType<CudaDevice>(Read(yaml).Settings().Training.Device).Tf32);

    [Theory]
    [InlineData("bf16: true", "bf16 (the processor computes in float32)")]
    [InlineData("ddp_timeout: 180000000\ndataloader_num_workers: 4", "ddp_timeout, dataloader_num_workers (one process reads the rows and trains)")]
    [InlineData("stage: sft", "stage (")]
    [InlineData("deepspeed: null", "deepspeed (one process")]
    [InlineData("use_galore: false", "use_galore (there is no such optimizer here)")]
    [InlineData("report_to: none", "report_to (")]
    [InlineData("report_to: [tensorboard]", "report_to (")]
    public void What_has_no_effect_is_named_with_the_reason(string yaml, string expected)
    {
        SettingsReader reader = Read(yaml);
        reader.Settings();
        Assert.Contains(expected, reader.IgnoredLine, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("rank: 8\nlerning_rate: 1e-4", "run.yaml:2: lerning_rate: there is no such key; the nearest one is learning_rate")]
    [InlineData("lora_rnk: 8", "nearest one is lora_rank")]
    [InlineData("stage: dpo", "run.yaml:1: stage: dpo cannot be had")]
    [InlineData("deepspeed: ds_z3.json", "deepspeed: ds_z3.json cannot be had: one process on one device trains")]
    [InlineData("use_galore: true", "use_galore: true cannot be had")]
    [InlineData("template: llama3", "template: llama3 cannot be had: the checkpoint's own chat template is used")]
    [InlineData("report_to: wandb", "report_to: wandb cannot be had")]
    [InlineData("report_to: [tensorboard, wandb]", "report_to: [tensorboard, wandb] cannot be had")]
    [InlineData("lora_rank: many", "run.yaml:1: lora_rank is many; it must be a whole number")]
    [InlineData("lora_rank: \"8\"", "run.yaml:1: lora_rank is \"8\"; it must be a whole number")]
    [InlineData("lr_scheduler_type: polynomial", "it must be linear, cosine, constant or constant_with_warmup")]
    [InlineData("finetuning_type: freeze", "it must be lora or full")]
    [InlineData("optim: adafactor", "optim is adafactor; it must be adamw")]
    [InlineData("init_lora_weights: eva", "init_lora_weights is eva")]
    [InlineData("quantization_bit: 3", "quantization_bit is 3; it must be 4 or 8")]
    [InlineData("quantization_bit: 4\nquantization_method: gptq", "quantization_method is gptq; it must be bnb or bitsandbytes")]
    [InlineData("bnb_4bit_quant_type: nf4", "set load_in_4bit to true")]
    [InlineData("bf16: true\nfp16: true", "asks for another type")]
    [InlineData("eval_strategy: steps", "eval_steps must say how many")]
    [InlineData("r: 8\nlora_rank: 16", "run.yaml:2: lora_rank: r (")]
    [InlineData("load_in_4bit: true\nprecision: int8", "says the same, --precision")]
    [InlineData("train_on_prompt: true\nmask_history: true", "says otherwise than train_on_prompt")]
    [InlineData("val_size: 0.1\neval_dataset: b.json", "gives validation rows already")]
    [InlineData("val_size: 1.5", "a share below 1 or a whole number of rows")]
    [InlineData("val_size: -1", "val_size is -1; it must be 0 or more")]
    [InlineData("rank_pattern: 8", "names with numbers")]
    public void What_cannot_be_had_is_an_error_with_place_and_reason(string yaml, string expected)
    {
        ConfigException error = Assert.Throws<ConfigException>(() => Read(yaml).Settings());
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.Contains("run.yaml", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Later_files_and_then_the_line_count()
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.AddFile(_folder.Write("one.yaml", "rank: 1\nalpha: 1\ndropout: 0.1\n"));
        reader.AddFile(_folder.Write("two.yaml", "lora_rank: 2\nlora_alpha: 2\n"));
        reader.Add([new Given("--rank", new ScalarValue("3", false, Place.CommandLine))]);
        RunSettings settings = reader.Settings();
        Assert.Equal((3, 2.0, 0.1), (settings.Training.Rank, settings.Training.Alpha, settings.Training.Dropout));
        Assert.Equal("command line", reader.Decisions["Rank"].From.Place.ToString());
        Assert.EndsWith("two.yaml:2", reader.Decisions["Alpha"].From.Place.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void A_key_of_another_command_is_let_through()
    {
        SettingsReader reader = new(CommandKinds.Generate);
        reader.AddFile(_folder.Write("run.yaml", "rank: 8\nadapter_name_or_path: out/adapter\nmax_new_tokens: 5\n"));
        RunSettings settings = reader.Settings();
        Assert.Equal("out/adapter", settings.Adapter);
        Assert.Null(settings.Training.InitialAdapter);
        Assert.Equal(5, settings.Generation.MaximumNewTokens);
    }

    [Theory]
    [InlineData("../CompanyQa/company_data.json", "", null)]
    [InlineData("company_data.json", ", \"ranking\": true", "has ranking")]
    [InlineData("company_data.json", ", \"columns\": {\"prompt\": \"ask\"}", "has prompt: ask in columns, where it must be instruction")]
    [InlineData("company_data.json", ", \"columns\": {\"images\": \"pictures\"}", "has images: pictures in columns, which is not read")]
    public void Names_of_dataset_info_are_files(string file, string more, string? expected)
    {
        _folder.Write("dataset_info.json", $"{{\"company\": {{\"file_name\": \"{file}\"{more}}}}}");
        if (expected is null)
        {
            Assert.Equal(Path.Combine(_folder.Path, file), Running.DatasetNames.Resolve(["company"], _folder.Path).Single());
        }
        else
        {
            Assert.Contains(expected, Assert.Throws<ConfigException>(() => Running.DatasetNames.Resolve(["company"], _folder.Path)).Message,
                StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_name_that_nobody_knows_is_an_error_with_the_nearest_one()
    {
        Assert.Contains("is no file, and there is no", Assert.Throws<ConfigException>(() => Running.DatasetNames.Resolve(["company"], _folder.Path)).Message,
            StringComparison.Ordinal);
        _folder.Write("dataset_info.json", "{\"company\": {\"hf_hub_url\": \"a/b\"}}");
        Assert.Contains("The nearest one is company", Assert.Throws<ConfigException>(() => Running.DatasetNames.Resolve(["compny"], _folder.Path)).Message,
            StringComparison.Ordinal);
        Assert.Contains("has no file_name", Assert.Throws<ConfigException>(() => Running.DatasetNames.Resolve(["company"], _folder.Path)).Message,
            StringComparison.Ordinal);
    }

    private SettingsReader Read(string yaml)
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.AddFile(_folder.Write("run.yaml", yaml + "\n"));
        return reader;
    }
}
