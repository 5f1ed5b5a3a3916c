using CompanyQa;
using MLNetLora.Quantization;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Samples;

/// <summary>Recipes of the sample: the committed ones, the names of each option, and what is refused.</summary>
public sealed class RecipeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_tutorial_s_recipe_is_read()
    {
        QwenLoraTrainer.Options options = new() { ModelPath = "base" };
        Recipe.Read(Path.Combine(Repository.Root, "samples", "CompanyQa", "recipes", "qwen1-qlora.json"), options);
        options.Validate();
        Assert.Equal((64, 16.0, 0.05), (options.Rank, options.Alpha, options.Dropout));
        Assert.Equal(["c_attn"], options.TargetModules);
        Assert.Equal((1, 8, 2e-4, 3, 512),
            (options.BatchSize, options.GradientAccumulationSteps, options.LearningRate, options.NumberOfEpochs, options.MaximumSequenceLength));
        Assert.Equal((OptimizerKind.AdamW8Bit, WeightPrecision.Nf4), (options.Optimizer, options.Precision));
    }

    [Theory]
    [InlineData("""{"r": 3, "lora_alpha": 5.5, "lora_dropout": 0.25, "use_rslora": true}""", "3 5.5 0.25 True")]
    [InlineData("""{"target_modules": "all-linear"}""", "all-linear")]
    [InlineData("""{"loraplus_lr_ratio": 16, "weight_decay": 0.5, "max_grad_norm": 0.25, "seed": 7}""", "16 0.5 0.25 7")]
    [InlineData("""{"warmup_ratio": 0.5, "warmup_steps": 9, "max_steps": 11, "lr_scheduler_type": "cosine"}""", "0.5 9 11 Cosine")]
    [InlineData("""{"gradient_checkpointing": true, "optim": "sgd", "max_length": 77, /* a comment */ "per_device_train_batch_size": 6,}""", "True Sgd 77 6")]
    public void Every_key_sets_its_option(string recipe, string expected)
    {
        QwenLoraTrainer.Options o = Read(recipe);
        string[] all =
        [
            FormattableString.Invariant($"{o.Rank} {o.Alpha} {o.Dropout} {o.UseRsLora}"), o.TargetModules.ToString()!,
            FormattableString.Invariant($"{o.LoraPlusRatio} {o.WeightDecay} {o.MaximumGradientNorm} {o.Seed}"),
            FormattableString.Invariant($"{o.WarmupRatio} {o.WarmupSteps} {o.MaximumSteps} {o.Schedule}"),
            $"{o.ActivationCheckpointing} {o.Optimizer} {o.MaximumSequenceLength} {o.BatchSize}",
        ];
        Assert.Contains(expected, all);
    }

    [Theory]
    [InlineData("""{"load_in_4bit": true}""", WeightPrecision.Fp4)]
    [InlineData("""{"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}""", WeightPrecision.Nf4)]
    [InlineData("""{"bnb_4bit_use_double_quant": true, "bnb_4bit_quant_type": "nf4", "load_in_4bit": true}""", WeightPrecision.Nf4Double)]
    [InlineData("""{"load_in_4bit": true, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": true}""", WeightPrecision.Fp4Double)]
    [InlineData("""{"load_in_4bit": false}""", WeightPrecision.Checkpoint)]
    [InlineData("""{}""", WeightPrecision.Checkpoint)]
    public void Bases_in_4_bits_have_bitsandbytes_names(string recipe, WeightPrecision expected) => Assert.Equal(expected, Read(recipe).Precision);

    [Theory]
    [InlineData("""{"lora_rank": 8}""", "'lora_rank' is not a key that a recipe has; the nearest one is 'lora_alpha'.")]
    [InlineData("""{"per_device_batch_size": 8}""", "the nearest one is 'per_device_train_batch_size'.")]
    [InlineData("""{"load_in_4bits": true}""", "the nearest one is 'load_in_4bit'.")]
    [InlineData("""{"r": "64"}""", "r is \"64\"; it must be a whole number.")]
    [InlineData("""{"r": 6.5}""", "r is 6.5; it must be a whole number.")]
    [InlineData("""{"learning_rate": null}""", "learning_rate is null; it must be a number.")]
    [InlineData("""{"use_rslora": 1}""", "use_rslora is 1; it must be true or false.")]
    [InlineData("""{"target_modules": ["c_attn", 1]}""", "target_modules is [\"c_attn\", 1]; it must be a list of texts.")]
    [InlineData("""{"lr_scheduler_type": "polynomial"}""", "it must be \"linear\" or \"cosine\" or \"constant_with_warmup\".")]
    [InlineData("""{"optim": "adafactor"}""", "There is no optimizer 'adafactor' (optim); there are adamw_torch,")]
    [InlineData("""{"bnb_4bit_quant_type": "nf4"}""", "bnb_4bit_quant_type says how a base in 4 bits is held; set load_in_4bit to true")]
    [InlineData("""{"load_in_4bit": true, "bnb_4bit_quant_type": "int4"}""", "it must be \"nf4\" or \"fp4\".")]
    [InlineData("""{"r": 1, "r": 2}""", "is not JSON")]
    [InlineData("""[1]""", "it must be a JSON object")]
    [InlineData("""{"r": """, "is not JSON")]
    public void What_is_wrong_is_said(string recipe, string expected) =>
        Assert.Contains(expected, Assert.Throws<OptionException>(() => Read(recipe)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_missing_file_is_said()
    {
        string message = Assert.Throws<OptionException>(() => Recipe.Read(_folder.File("none.json"), new())).Message;
        Assert.Contains("cannot be read", message, StringComparison.Ordinal);
    }

    private QwenLoraTrainer.Options Read(string recipe)
    {
        File.WriteAllText(_folder.File("recipe.json"), recipe);
        QwenLoraTrainer.Options options = new();
        Recipe.Read(_folder.File("recipe.json"), options);
        return options;
    }
}
