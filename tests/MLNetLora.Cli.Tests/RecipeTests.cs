using MLNetLora.Cli.Configuration;
using MLNetLora.Quantization;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Cli.Tests;

/// <summary>The recipes in samples/recipes are read, and make a training that begins.</summary>
public sealed class RecipeTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Recipes => [.. Directory.EnumerateFiles(Repository.At("samples", "recipes"), "*.yaml")
        .Select(path => Path.GetFileName(path))];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Recipes))]
    public async Task A_recipe_is_read_and_makes_sense(string name) =>
        (await Cli.Run("train", Repository.At("samples", "recipes", name), "--output", _folder.At("out"), "--dry-run")).Succeeded();

    [Theory]
    [InlineData("qwen2.5-0.5b-lora.yaml")]
    [InlineData("qlora-nf4.yaml")]
    [InlineData("llama-factory.yaml", "--dataset-folder", "samples/recipes", "--max-length", "256", "--lora-plus-ratio", "4")]
    public async Task A_recipe_trains(string name, params string[] more)
    {
        string[] data = more.Length > 0 ? [more[0], Repository.At("samples", "recipes"), .. more[2..]] : ["--data", Repository.Data];
        Outcome run = (await Cli.Run(["train", Repository.At("samples", "recipes", name), "--model", Repository.Nano, "--output", _folder.At("out"),
            "--max-steps", "1",
            .. data])).Succeeded();
        Assert.Matches(@"steps +1\b", run.Out);
        Assert.True(File.Exists(_folder.At("out/adapter_model.safetensors")));
    }

    [Fact]
    public void The_recipe_of_the_tutorials_says_what_they_say()
    {
        RunSettings settings = Settings(Repository.At("samples", "recipes", "qwen1-qlora.yaml"));
        QwenLoraTrainer.Options options = settings.Training;
        options.Validate();
        Assert.Equal("Qwen/Qwen-1_8B-Chat", options.ModelPath);
        Assert.Equal((64, 16.0, 0.05), (options.Rank, options.Alpha, options.Dropout));
        Assert.Equal(["c_attn"], options.TargetModules);
        Assert.Equal((1, 8, 2e-4, 3, 512),
            (options.BatchSize, options.GradientAccumulationSteps, options.LearningRate, options.NumberOfEpochs, options.MaximumSequenceLength));
        Assert.Equal((OptimizerKind.AdamW8Bit, WeightPrecision.Nf4), (options.Optimizer, options.Precision));
    }

    [Theory]
    [InlineData("""{"r": 3, "lora_alpha": 5.5, "lora_dropout": 0.25, "use_rslora": true}""", "rank 3, alpha 5.5, dropout 0.25, use_rs_lora true")]
    [InlineData("""{"loraplus_lr_ratio": 16, "weight_decay": 0.5, "max_grad_norm": 0.25, "seed": 7}""",
        "lora_plus_ratio 16, weight_decay 0.5, maximum_gradient_norm 0.25, seed 7")]
    [InlineData("""{"warmup_ratio": 0.5, "warmup_steps": 9, "max_steps": 11, "lr_scheduler_type": "cosine"}""",
        "warmup_ratio 0.5, warmup_steps 9, maximum_steps 11, schedule cosine")]
    [InlineData("""{"gradient_checkpointing": true, "optim": "sgd", "max_length": 77, /* a comment */ "per_device_train_batch_size": 6,}""",
        "activation_checkpointing true, optimizer sgd, maximum_sequence_length 77, batch_size 6")]
    [InlineData("""{"load_in_4bit": true}""", "precision fp4")]
    [InlineData("""{"load_in_4bit": true, "bnb_4bit_quant_type": "nf4"}""", "precision nf4")]
    [InlineData("""{"bnb_4bit_use_double_quant": true, "bnb_4bit_quant_type": "nf4", "load_in_4bit": true}""", "precision nf4_double")]
    [InlineData("""{"load_in_4bit": true, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": true}""", "precision fp4_double")]
    [InlineData("""{"load_in_4bit": false}""", "precision checkpoint")]
    public void Every_key_of_a_JSON_recipe_sets_its_option(string recipe, string expected)
    {
        RunSettings settings = Settings(_folder.Write("recipe.json", recipe));
        foreach (string[] pair in expected.Split(", ").Select(pair => pair.Split(' ')))
        {
            Assert.Equal(pair[1], Values.Show(SettingsTable.All.Single(setting => setting.Key == pair[0]).Get(settings)));
        }
    }

    [Theory]
    [InlineData("""{"lora_rnk": 8}""", "the nearest one is lora_rank")]
    [InlineData("""{"per_device_batch_size": 8}""", "the nearest one is")]
    [InlineData("""{"load_in_4bits": true}""", "the nearest one is load_in_4bit")]
    [InlineData("""{"r": "64"}""", "r is \"64\"; it must be a whole number.")]
    [InlineData("""{"r": 6.5}""", "r is 6.5; it must be a whole number.")]
    [InlineData("""{"use_rslora": 1}""", "use_rslora is 1; it must be true or false.")]
    [InlineData("""{"target_modules": ["c_attn", []]}""", "target_modules is")]
    [InlineData("""{"lr_scheduler_type": "polynomial"}""", "it must be linear, cosine, constant or constant_with_warmup.")]
    [InlineData("""{"optim": "adafactor"}""", "it must be adamw")]
    [InlineData("""{"bnb_4bit_quant_type": "nf4"}""", "set load_in_4bit to true")]
    [InlineData("""{"load_in_4bit": true, "bnb_4bit_quant_type": "int4"}""", "it must be nf4 or fp4.")]
    [InlineData("""{"r": 1, "r": 2}""", "r is there twice")]
    [InlineData("""[1]""", "must be keys and values")]
    [InlineData("""{"r": """, "is not JSON")]
    public void What_is_wrong_with_a_JSON_recipe_is_said(string recipe, string expected) =>
        Assert.Contains(expected, Assert.Throws<ConfigException>(() => Settings(_folder.Write("recipe.json", recipe))).Message, StringComparison.Ordinal);

    private static RunSettings Settings(string path)
    {
        SettingsReader reader = new(CommandKinds.Train);
        reader.AddFile(path);
        return reader.Settings();
    }
}
