using System.Text.Json.Nodes;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Adapters;

/// <summary>Targets, PEFT folders in and out, and what is refused.</summary>
public sealed class LoraAdapterTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly Checkpoint _base;

    public LoraAdapterTests() => _base = TinyModel.WriteCheckpoint(_folder.File("base"));

    [Fact]
    public void A_list_matches_whole_name_parts()
    {
        Assert.Equal(["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"], Names(new() { TargetModules = ["q_proj"] }));
        Assert.Equal(["model.layers.1.self_attn.q_proj"], Names(new() { TargetModules = ["layers.1.self_attn.q_proj"] }));
        Assert.Contains("No layer of this qwen3 model is named 'proj'", Refused(new() { TargetModules = ["q_proj", "proj"] }), StringComparison.Ordinal);
    }

    [Fact]
    public void All_linear_is_every_linear_layer_but_the_output()
    {
        string[] names = Names(new() { TargetModules = "all-linear" });
        Assert.Equal(14, names.Length);
        Assert.DoesNotContain("lm_head", names);
    }

    [Fact]
    public void All_linear_in_a_list_says_that_it_stands_alone()
    {
        const string hint = "\"all-linear\" stands alone and not in a list: TargetModules = \"all-linear\".";
        Assert.EndsWith(hint, Refused(new() { TargetModules = ["all-linear"] }), StringComparison.Ordinal);
        Assert.EndsWith(hint, Refused(new() { TargetModules = ["q_proj", "all-linear"] }), StringComparison.Ordinal);
    }

    [Fact]
    public void A_regular_expression_matches_the_whole_name()
    {
        Assert.Equal(["model.layers.1.self_attn.v_proj"], Names(new() { TargetModules = @".*\.1\.self_attn\.v_proj" }));
        string message = Refused(new() { TargetModules = "v_pro" });
        Assert.Contains("matches no layer", message, StringComparison.Ordinal);
        Assert.Contains("q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj", message, StringComparison.Ordinal);
        Assert.Contains("is not a regular expression", Refused(new() { TargetModules = "(" }), StringComparison.Ordinal);
        Assert.Contains("takes too long", Refused(new() { TargetModules = @"(([a-z_.0-9]+)+)+\!" }), StringComparison.Ordinal);
    }

    [Fact]
    public void All_regular_expressions_of_an_adapter_have_one_time_together()
    {
        LoraOptions options = new() { Rank = 4, RankPattern = Enumerable.Range(0, 1000).ToDictionary(i => $"layer_{i}.q_proj", _ => 2) };
        Assert.NotEmpty(Names(options));
        LoraTargets.PatienceInAll = TimeSpan.Zero;
        try
        {
            Assert.Contains("take more than 0 s", Refused(options), StringComparison.Ordinal);
        }
        finally
        {
            LoraTargets.PatienceInAll = null;
        }
    }

    [Fact]
    public void A_target_of_another_family_says_which_names_exist()
    {
        string message = Refused(new() { TargetModules = ["c_attn"] });
        Assert.Contains("'c_attn'", message, StringComparison.Ordinal);
        Assert.Contains("q_proj, k_proj, v_proj, o_proj", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Layers_patterns_and_scaling()
    {
        LoraOptions options = new()
        {
            Rank = 8,
            Alpha = 16,
            TargetModules = ["q_proj", "v_proj"],
            LayersToTransform = [1],
            RankPattern = new Dictionary<string, int> { ["v_proj"] = 4, [".*"] = 2 },
            AlphaPattern = new Dictionary<string, double> { ["layers.1.self_attn.q_proj"] = 3 },
        };
        LoraAdapter adapter = LoraAdapter.Create(options, _base, 1);
        Assert.Equal([("model.layers.1.self_attn.q_proj", 2, 1.5), ("model.layers.1.self_attn.v_proj", 4, 4.0)],
            adapter.Factors.Select(f => (f.Module.Module.Name, f.Module.Rank, f.Module.Scaling)));
        Assert.Equal(16 / Math.Sqrt(4), LoraAdapter.Create(options.With(o => o.UseRsLora = true), _base, 1).Factors[1].Module.Scaling);
        Assert.Contains("the layer 2; this model has the layers 0 to 1", Refused(options.With(o => o.LayersToTransform = [2])), StringComparison.Ordinal);
    }

    [Fact]
    public void A_fresh_adapter_is_PEFTs_A_uniform_and_B_zero()
    {
        LoraFactors factors = LoraAdapter.Create(new(), _base, 1).Factors[0];
        float bound = 1 / MathF.Sqrt(16);
        Assert.All(factors.A, a => Assert.InRange(a, -bound, bound));
        Assert.InRange(factors.A.Max() - factors.A.Min(), 1.9f * bound, 2f * bound);
        Assert.All(factors.B, b => Assert.Equal(0, b));
        Assert.Equal(factors.A, LoraAdapter.Create(new(), _base, 1).Factors[0].A);
        Assert.NotEqual(factors.A, LoraAdapter.Create(new(), _base, 2).Factors[0].A);
    }

    [Fact]
    public void A_folder_is_read_as_it_was_written()
    {
        LoraOptions options = new()
        {
            Rank = 3,
            Alpha = 7.5,
            Dropout = 0.25,
            UseRsLora = true,
            TargetModules = ["o_proj", "up_proj"],
            LayersToTransform = [0],
            RankPattern = new Dictionary<string, int> { ["up_proj"] = 5 }
        };
        LoraAdapter written = LoraAdapter.Create(options, _base, 1);
        written.SaveAsPeft(_folder.File("adapter"));
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), _base);
        Assert.Equal(written.Factors.Select(f => f.Module), read.Factors.Select(f => f.Module));
        Assert.All(written.Factors.Zip(read.Factors), pair => Assert.Equal(pair.First.A.Concat(pair.First.B), pair.Second.A.Concat(pair.Second.B)));
        Assert.Equal(0.25, read.Options.Dropout);
        Assert.Equal(["adapter_config.json", "adapter_model.safetensors"], Directory.GetFiles(_folder.File("adapter")).Select(Path.GetFileName).Order());
    }

    [Theory]
    [InlineData(TensorType.Float16)]
    [InlineData(TensorType.BFloat16)]
    public void Sixteen_bit_factors_are_read(object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        LoraAdapter written = Saved();
        string file = _folder.File("adapter/adapter_model.safetensors");
        SafetensorsFile source = SafetensorsFile.Open(file);
        SafetensorsWriter.Item[] items = [
            .. source.Tensors.Values.Select(entry => SafetensorsWriter.Item.From(entry.Name, type, entry.Shape, source.ReadFloat32(entry)))];
        SafetensorsWriter.Write(file, items);
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), _base);
        Assert.All(written.Factors[0].A.Zip(read.Factors[0].A), pair => Assert.Equal(pair.First, pair.Second, type == TensorType.Float16 ? 3e-4f : 2e-3f));
    }

    [Theory]
    [InlineData("GGUF", "is a GGUF file")]
    [InlineData("version https://git-lfs.github.com/spec/v1", "pointer of git-lfs")]
    [InlineData("PK\u0003\u0004", "pickle")]
    public void What_is_no_safetensors_file_says_what_it_is(string head, string expected)
    {
        Saved();
        File.WriteAllText(_folder.File("adapter/adapter_model.safetensors"), head + new string('x', 200));
        Assert.Contains(expected, Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base)).Message);
    }

    [Fact]
    public void Expressions_that_would_end_the_process_or_never_end_are_refused()
    {
        string brackets = string.Concat(Enumerable.Repeat("[a-", 70_000)) + "b" + new string(']', 70_000);
        foreach (string pattern in (string[])[brackets, brackets[..4000], new string('a', 20_000)])
        {
            string message = Refused(new() { TargetModules = pattern });
            Assert.Contains("write it more simply", message);
            Assert.True(message.Length < 500);
            Assert.Contains("write it more simply", Refused(new() { Rank = 4, RankPattern = new Dictionary<string, int> { [pattern] = 2 } }));
        }

        Dictionary<string, int> many = Enumerable.Range(0, 20_001).ToDictionary(i => $"x{i}", _ => 2);
        Assert.Contains("20001 patterns", Refused(new() { Rank = 4, RankPattern = many }));
    }

    [Fact]
    public void A_file_that_ends_within_its_header_is_a_typed_error()
    {
        byte[] bytes = LoraAdapter.Create(new() { Rank = 2 }, _base, 1).ToSafetensors();
        using MemoryStream stream = new(bytes[..100]);
        string config = LoraAdapter.Create(new() { Rank = 2 }, _base, 1).ToPeftConfigJson();
        Assert.Contains(
            "ends within its header",
            Assert.Throws<CheckpointException>(() => LoraAdapter.Read(stream, bytes.Length, config, "here", _base)).Message);
    }

    [Fact]
    public void What_may_not_be_null_is_said()
    {
        Assert.Throws<ArgumentNullException>(() => LoraAdapter.LoadPeft("a", null!));
        Assert.Throws<ArgumentNullException>(() => LoraAdapter.Create(null!, _base, 1));
        Assert.Throws<ArgumentNullException>(() => LoraAdapter.Create(new(), null!, 1));
        LoraAdapter adapter = LoraAdapter.Create(new() { Rank = 2 }, _base, 1);
        Assert.Throws<ArgumentNullException>(() => adapter.DescribeParameters(null!));
        Assert.Throws<ArgumentNullException>(() => adapter.Write(null!));
        Assert.Throws<ArgumentNullException>(() => LoraAdapter.FromPeft(default, adapter.ToPeftConfigJson(), "here", null!));
        Assert.Throws<ArgumentException>(() => adapter.SaveAsPeft(" "));
    }

    [Fact]
    public void A_configuration_larger_than_any_is_not_read()
    {
        Saved();
        using (FileStream file = File.OpenWrite(_folder.File("adapter/adapter_config.json")))
        {
            file.SetLength(5L << 30);
        }

        string message = Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base)).Message;
        Assert.Contains("adapter_config.json has more than", message);
    }

    [Fact]
    public void An_adapter_that_cannot_be_opened_is_an_error_of_the_adapter()
    {
        Saved();
        File.Delete(_folder.File("adapter/adapter_model.safetensors"));
        File.CreateSymbolicLink(_folder.File("adapter/adapter_model.safetensors"), _folder.File("adapter"));
        Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base));
        using FileStream locked = new(_folder.File("adapter/locked"), FileMode.Create, FileAccess.ReadWrite, FileShare.None);
        File.Delete(_folder.File("adapter/adapter_model.safetensors"));
        File.CreateSymbolicLink(_folder.File("adapter/adapter_model.safetensors"), _folder.File("adapter/locked"));
        Assert.Contains("cannot be read", Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base)).Message);
    }

    [Fact]
    public void A_pickled_adapter_is_refused_with_the_reason()
    {
        Saved();
        File.Move(_folder.File("adapter/adapter_model.safetensors"), _folder.File("adapter/adapter_model.bin"));
        string message = Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base)).Message;
        Assert.Contains("a Python pickle: opening one can run any code", message, StringComparison.Ordinal);
        Assert.Contains("safe_serialization=True", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("use_dora", "true", "has no tensor 'base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector'")]
    [InlineData("bias", "\"some\"", "bias is 'some'; PEFT knows none, all and lora_only")]
    [InlineData("modules_to_save", "[\"lm_head\"]",
        "No module of this qwen3 model is named 'lm_head' (ModulesToSave). There are: embed_tokens, input_layernorm, q_norm")]
    [InlineData("modules_to_save", "[\"embed_tokens\"]", "the embedding of this model is its output layer too")]
    [InlineData("modules_to_save", "[\"up_proj\"]", "which is the linear layer model.layers.0.mlp.up_proj")]
    [InlineData("modules_to_save", "[\"q_norm\"]", "has no tensor 'base_model.model.model.layers.0.self_attn.q_norm.weight'")]
    [InlineData("fan_in_fan_out", "true", "transposed")]
    [InlineData("init_lora_weights", "\"pissa_niter_4\"", "the initialization pissa_niter_4, which changes the base weights")]
    [InlineData("exclude_modules", "[\"v_proj\"]", "which adapter_config.json does not account for")]
    [InlineData("exclude_modules", "{}", "exclude_modules is neither a list of names nor an expression")]
    [InlineData("layers_pattern", "{}", "layers_pattern is neither a list of names nor a name")]
    [InlineData("arrow_config", "{\"top_k\":3}", "a router of several adapters")]
    [InlineData("use_something_new", "true", "use_something_new is set, and this version does not know what it asks for")]
    [InlineData("something_config", "{\"a\":1}", "something_config is set")]
    [InlineData("alpha_pattern", "{\"(?<n>q_proj)\": 2}", "holds (?<n")]
    [InlineData("use_bdlora", "{}", "block-diagonal")]
    [InlineData("peft_type", "\"IA3\"", "only LORA is supported")]
    [InlineData("r", "\"eight\"", "wrong type")]
    [InlineData("r", "5", "has the shape [64, 16], but this base and adapter_config.json ask for [5, 16]")]
    [InlineData("target_modules", "[\"q_proj\", \"k_proj\", \"v_proj\"]", "has no tensor 'base_model.model.model.layers.0.self_attn.k_proj.lora_A.weight'")]
    [InlineData("target_modules", "[\"q_proj\"]", "which adapter_config.json does not account for")]
    [InlineData("r", "1000000000", "adapter_config.json makes no sense: Rank is 1000000000")]
    [InlineData("lora_alpha", "1e400", "adapter_config.json makes no sense: Alpha is")]
    [InlineData("rank_pattern", "{\"q_proj\": 0}", "adapter_config.json makes no sense: RankPattern of 'q_proj' is 0")]
    [InlineData("alpha_pattern", "{\"q_proj\": -1}", "adapter_config.json makes no sense: AlphaPattern of 'q_proj' is -1")]
    [InlineData("target_modules", "{}", "wrong type")]
    [InlineData("layers_to_transform", "{}", "wrong type")]
    [InlineData("layers_to_transform", "[null]", "null stands where a value belongs")]
    [InlineData("rank_pattern", "[]", "wrong type")]
    [InlineData("alpha_pattern", "[]", "wrong type")]
    [InlineData("target_modules", "[]", "adapter_config.json makes no sense: TargetModules is empty")]
    [InlineData("target_modules", "[\"c_attn\"]", "No layer of this qwen3 model is named 'c_attn'")]
    public void A_configuration_that_is_not_supported_or_does_not_fit(string key, string value, string message)
    {
        Saved();
        string file = _folder.File("adapter/adapter_config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        config[key] = JsonNode.Parse(value);
        File.WriteAllText(file, config.ToJsonString());
        Assert.Contains(message, Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("use_something_new", "false")]
    [InlineData("something_config", "null")]
    [InlineData("something_list", "[]")]
    [InlineData("qalora_group_size", "16")]
    [InlineData("megatron_core", "\"megatron.core\"")]
    [InlineData("layers_to_transform", "[]")]
    [InlineData("layers_pattern", "[\"h\", \"layers\"]")]
    [InlineData("exclude_modules", "[\"k_proj\"]")]
    [InlineData("exclude_modules", "\"\"")]
    public void What_is_off_or_changes_nothing_is_read(string key, string value)
    {
        LoraAdapter saved = Saved();
        string file = _folder.File("adapter/adapter_config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        config[key] = JsonNode.Parse(value);
        File.WriteAllText(file, config.ToJsonString());
        Assert.Equal(saved.Factors.Select(f => f.Module), LoraAdapter.LoadPeft(_folder.File("adapter"), _base).Factors.Select(f => f.Module));
    }

    /// <summary>Biases, embedding, head and norms are trained, saved, read, answered with and merged; each of them moves.</summary>
    [Theory]
    [InlineData("qwen2", LoraBias.All, "embed_tokens", "lm_head")]
    [InlineData("qwen2", LoraBias.LoraOnly)]
    [InlineData("qwen3", LoraBias.None, "input_layernorm", "q_norm")]
    [InlineData("qwen", LoraBias.All, "ln_2", "lm_head")]
    public void What_is_trained_whole_takes_the_base_s_place(string modelType, LoraBias bias, params string[] modules)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("other"), modelType, tied: false);
        LoraOptions options = new()
        {
            Rank = 2,
            Dropout = 0,
            TargetModules = [checkpoint.Architecture.DefaultTargets[0]],
            Bias = bias,
            ModulesToSave = modules,
        };
        TrainingOptions training = new() { NumberOfEpochs = 3, GradientAccumulationSteps = 1, LearningRate = 1e-2, Threads = 1 };
        TrainingRow row = TinyModel.Row(new Random(1), 12);
        (LoraAdapter adapter, _) = LoraTraining.Train(checkpoint, options, [row], training, [row]);
        string[] names = [.. adapter.Saved.Select(s => s.Tensor.Base.Name)];
        Assert.NotEmpty(names);
        Assert.All(adapter.Saved, s => Assert.NotEqual(checkpoint.Tensors[s.Tensor.Base.Name].ReadFloat32(), s.Values));

        adapter.SaveAsPeft(_folder.File("whole"));
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("whole"), checkpoint);
        Assert.Equal(names, read.Saved.Select(s => s.Tensor.Base.Name));
        Assert.All(adapter.Saved.Zip(read.Saved), pair => Assert.Equal(pair.First.Values, pair.Second.Values));

        Merge.Save(checkpoint, adapter, _folder.File("merged"));
        Checkpoint merged = Checkpoint.Open(_folder.File("merged"));
        Assert.All(adapter.Saved, s => Assert.Equal(s.Values, merged.Tensors[s.Tensor.Base.Name].ReadFloat32()));
        using CausalLanguageModel attached = new(checkpoint, read, threads: 1);
        using CausalLanguageModel whole = new(merged, threads: 1);
        Assert.InRange(GoldenFile.RelativeError(attached.Logits(row.InputIds), whole.Logits(row.InputIds)), 0, 1e-5);
        using CausalLanguageModel rounded = new(checkpoint, read, threads: 1, precision: WeightPrecision.Int8);
        Assert.InRange(GoldenFile.RelativeError(rounded.Logits(row.InputIds), whole.Logits(row.InputIds)), 0, 0.05);
        (LoraAdapter more, TrainingSummary summary) = LoraTraining.Train(checkpoint, options, [row], training, initial: read);
        Assert.True(summary.Steps[^1].Loss < summary.Steps[0].Loss);
        Assert.NotEqual(read.Saved[0].Values, more.Saved[0].Values);
        Checkpoint stranger = TinyModel.WriteCheckpoint(_folder.File("stranger"), modelType == "qwen" ? "qwen3" : "qwen", tied: false);
        Assert.Throws<AdapterException>(() => new CausalLanguageModel(stranger, read));
    }

    [Fact]
    public void Exceptions_and_names_of_layers()
    {
        Assert.Equal(
            ["model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj"],
            Names(new() { TargetModules = ["q_proj", "v_proj"], ExcludeModules = ["q_proj"] }));
        LoraOptions options = new()
        {
            TargetModules = "all-linear",
            ExcludeModules = @".*\.(mlp\..*|[qko]_proj)",
            LayersToTransform = [1],
            LayersPattern = ["h", "layers"],
        };
        Assert.Equal(["model.layers.1.self_attn.v_proj"], Names(options));
        Assert.Contains("LayersPattern and ExcludeModules leave none of the", Refused(options.With(o => o.LayersPattern = ["h"])), StringComparison.Ordinal);
        LoraAdapter.Create(options, _base, 1).SaveAsPeft(_folder.File("adapter"));
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), _base);
        Assert.Equal(["model.layers.1.self_attn.v_proj"], read.Factors.Select(f => f.Module.Module.Name));
        Assert.Equal(options.ExcludeModules.Pattern, read.Options.ExcludeModules!.Pattern);
        Assert.Equal(["h", "layers"], read.Options.LayersPattern);
    }

    /// <summary>PEFT loads an adapter whose list names a layer that this base has not; the tensors decide.</summary>
    [Fact]
    public void A_list_of_which_only_some_names_exist_loads_with_a_warning()
    {
        LoraAdapter saved = Saved();
        string file = _folder.File("adapter/adapter_config.json");
        JsonObject config = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        config["target_modules"] = new JsonArray("q_proj", "v_proj", "c_attn");
        File.WriteAllText(file, config.ToJsonString());
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), _base);
        Assert.Equal(saved.Factors.Select(f => f.Module), read.Factors.Select(f => f.Module));
        Assert.Contains("'c_attn'", Assert.Single(read.Warnings), StringComparison.Ordinal);
    }

    [Fact]
    public void A_file_that_names_a_hundred_thousand_parameters_or_modules_is_read_in_a_moment_or_refused_in_few_words()
    {
        const int many = 100_000;
        LoraAdapter saved = Saved();
        string file = _folder.File("adapter/adapter_config.json");
        string original = File.ReadAllText(file);
        Write("target_parameters", i => $"experts.nothing_{i}.weight", ("lora_dropout", 0));
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), _base);
        Assert.Equal(saved.Factors.Select(f => f.Module), read.Factors.Select(f => f.Module));
        Assert.Contains("'experts.nothing_0.weight' (TargetParameters)", Assert.Single(read.Warnings), StringComparison.Ordinal);

        Write("target_modules", i => i < 2 ? $"{"qv"[i]}_proj" : $"nothing_{i}");
        Assert.Contains("'nothing_2'", Assert.Single(LoraAdapter.LoadPeft(_folder.File("adapter"), _base).Warnings), StringComparison.Ordinal);
        Write("modules_to_save", i => $"{i}");
        Refused($"ModulesToSave has {many} names; at most 4096 are read");
        Write("modules_to_save", _ => "q_norm");
        Refused("has no tensor 'base_model.model.model.layers.0.self_attn.q_norm.weight'");
        Write("modules_to_save", _ => new string('x', 300));
        Refused("is named 'xxx");
        Write("layers_pattern", i => $"layers{i}", ("layers_to_transform", 1));
        Refused($"{many} patterns for layers");

        void Write(string key, Func<int, string> name, params (string Key, int Value)[] others)
        {
            JsonObject config = JsonNode.Parse(original)!.AsObject();
            config[key] = new JsonArray([.. Enumerable.Range(0, many).Select(i => (JsonNode)name(i))]);
            foreach ((string other, int value) in others)
            {
                config[other] = value;
            }

            File.WriteAllText(file, config.ToJsonString());
        }

        void Refused(string why)
        {
            string message = Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base)).Message;
            Assert.Contains(why, message, StringComparison.Ordinal);
            Assert.True(message.Length < 600, message);
        }
    }

    [Fact]
    public void Factors_in_64_bits_are_read()
    {
        LoraAdapter saved = Saved();
        string file = _folder.File("adapter/adapter_model.safetensors");
        SafetensorsFile source = SafetensorsFile.Open(file);
        JsonObject header = [];
        using MemoryStream data = new();
        foreach (TensorEntry entry in source.Tensors.Values)
        {
            long begin = data.Length;
            foreach (float value in source.ReadFloat32(entry))
            {
                data.Write(BitConverter.GetBytes(value * (1 + 1e-12)));
            }

            header[entry.Name] = new JsonObject
            {
                ["dtype"] = "F64",
                ["shape"] = new JsonArray([.. entry.Shape.Select(size => (JsonNode)size)]),
                ["data_offsets"] = new JsonArray(begin, data.Length),
            };
        }

        byte[] json = System.Text.Encoding.UTF8.GetBytes(header.ToJsonString());
        File.WriteAllBytes(file, [.. BitConverter.GetBytes((long)json.Length), .. json, .. data.ToArray()]);
        LoraAdapter read = LoraAdapter.LoadPeft(_folder.File("adapter"), _base);
        Assert.Equal(saved.Factors[0].A, read.Factors[0].A);
    }

    [Fact]
    public void The_parameter_line_is_PEFTs()
    {
        LoraAdapter adapter = LoraAdapter.Create(new() { Rank = 64 }, _base, 1);
        long trainable = 2 * ((64 * (16 + 32)) + (64 * (16 + 16)));
        long all = _base.ParameterCount + trainable;
        Assert.Equal(FormattableString.Invariant($"trainable params: {trainable:N0} || all params: {all:N0} || trainable%: {100.0 * trainable / all:F4}"),
            adapter.DescribeParameters(_base));
    }

    [Fact]
    public void All_linear_is_spelled_out_in_the_file()
    {
        // PEFT takes no layers_to_transform beside a string.
        LoraAdapter.Create(new() { TargetModules = "all-linear", LayersToTransform = [1] }, _base, 1).SaveAsPeft(_folder.File("adapter"));
        JsonObject config = JsonNode.Parse(File.ReadAllText(_folder.File("adapter/adapter_config.json")))!.AsObject();
        Assert.Equal(["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"],
            config["target_modules"]!.AsArray().Select(name => name!.GetValue<string>()));
        Assert.Equal(7, LoraAdapter.LoadPeft(_folder.File("adapter"), _base).Factors.Count);
    }

    [Fact]
    public void A_key_that_stands_twice_is_a_typed_error()
    {
        Saved();
        string file = _folder.File("adapter/adapter_config.json");
        File.WriteAllText(file, File.ReadAllText(file).Replace("\"r\": 64", "\"r\": 64, \"r\": 3", StringComparison.Ordinal));
        Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), _base));
    }

    [Fact]
    public void Merging_beside_other_weights_or_through_a_link_to_the_base_is_refused()
    {
        LoraAdapter adapter = LoraAdapter.Create(new(), _base, 1);
        Directory.CreateSymbolicLink(_folder.File("link"), _base.Folder);
        Assert.Contains("would overwrite its own base", Assert.Throws<OptionException>(() => Merge.Save(_base, adapter, _folder.File("link"))).Message,
            StringComparison.Ordinal);
        Directory.CreateDirectory(_folder.File("used"));
        File.WriteAllText(_folder.File("used/model-00001-of-00002.safetensors"), "");
        Assert.Contains("already holds model-00001-of-00002.safetensors",
            Assert.Throws<OptionException>(() => Merge.Save(_base, adapter, _folder.File("used"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Merging_onto_the_base_itself_is_refused() =>
        Assert.Contains("would overwrite its own base",
            Assert.Throws<OptionException>(() => Merge.Save(_base, LoraAdapter.Create(new(), _base, 1), _base.Folder)).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData(TensorType.Float32)]
    [InlineData(TensorType.BFloat16)]
    public void Merging_adds_in_float32_and_rounds_once(object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("typed"), type: type);
        LoraAdapter fresh = LoraAdapter.Create(new() { Rank = 2, Alpha = 3, TargetModules = ["up_proj"] }, checkpoint, 1);
        Random random = new(2);
        LoraAdapter adapter = new(fresh.Options, fresh.BaseModel, [.. fresh.Factors.Select(f => f with { B = [.. f.B.Select(_ => random.NextSingle())] })]);
        Merge.Save(checkpoint, adapter, _folder.File("merged"));
        Checkpoint merged = Checkpoint.Open(_folder.File("merged"));
        foreach ((string name, CheckpointTensor tensor) in checkpoint.Tensors)
        {
            float[] expected = tensor.ReadFloat32();
            if (adapter.Factors.SingleOrDefault(f => f.Module.Module.Name + ".weight" == name) is LoraFactors f)
            {
                for (int o = 0; o < 24; o++)
                {
                    for (int i = 0; i < 16; i++)
                    {
                        double sum = expected[(o * 16) + i] + (1.5 * Enumerable.Range(0, 2).Sum(r => (double)f.B[(o * 2) + r] * f.A[(r * 16) + i]));
                        expected[(o * 16) + i] = (float)sum;
                    }
                }
            }

            float[] actual = merged.Tensors[name].ReadFloat32();
            Assert.Equal(type, merged.Tensors[name].Entry.Type);
            Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, type == TensorType.Float32 ? 1e-6f : Math.Abs(pair.First) / 250));
        }
    }

    public void Dispose() => _folder.Dispose();

    private LoraAdapter Saved()
    {
        LoraAdapter adapter = LoraAdapter.Create(new(), _base, 1);
        adapter.SaveAsPeft(_folder.File("adapter"));
        return adapter;
    }

    private string[] Names(LoraOptions options) => [.. LoraAdapter.Create(options, _base, 1).Factors.Select(f => f.Module.Module.Name)];

    private string Refused(LoraOptions options) => Assert.Throws<AdapterException>(() => LoraAdapter.Create(options, _base, 1)).Message;
}
