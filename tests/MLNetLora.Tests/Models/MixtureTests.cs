using System.Text.Json.Nodes;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Models;

/// <summary>Mixtures of experts beyond the reference cases: files in every order, configurations, precisions, what is refused.</summary>
public sealed class MixtureTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("by name")]
    [InlineData("backwards")]
    [InlineData("shuffled over three files")]
    [InlineData("a border between the matrices of an expert")]
    public void Experts_are_found_wherever_they_lie(string how)
    {
        Checkpoint before = MixtureModel.Write(_folder.File("before"), "qwen2_moe");
        string[] names = [.. before.Tensors.Keys];
        string[] sorted = [.. names.Order(StringComparer.Ordinal)];
        int[] shuffled = [.. Enumerable.Range(0, names.Length).OrderBy(i => (i * 7919) % 1009)];
        Checkpoint after = MixtureModel.Rearrange(before, _folder.File("after"), (name, i) => how switch
        {
            "by name" => ("model-1.safetensors", TensorType.Float32, Array.IndexOf(sorted, name)),
            "backwards" => ("model-1.safetensors", TensorType.Float32, -i),
            "shuffled over three files" => ($"model-{shuffled[i] % 3}.safetensors", TensorType.Float32, shuffled[i]),
            _ => (i <= Array.FindIndex(names, n => n.EndsWith("2.mlp.experts.3.gate_proj.weight", StringComparison.Ordinal)) ? "model-1.safetensors"
                : "model-2.safetensors", TensorType.Float32, i),
        });
        Assert.Equal(Logits(before), Logits(after));
    }

    [Fact]
    public void Experts_in_16_bits_count_as_their_exact_float32_values_beside_others_in_float32()
    {
        Checkpoint before = MixtureModel.Write(_folder.File("before"));
        Checkpoint mixed = MixtureModel.Rearrange(before, _folder.File("mixed"), (name, i) => ("model-1.safetensors",
            !name.Contains(".experts.", StringComparison.Ordinal) ? TensorType.Float32 : (i % 3) switch
            {
                0 => TensorType.BFloat16,
                1 => TensorType.Float16,
                _ => TensorType.Float32,
            }, i));
        Checkpoint upcast = MixtureModel.Rearrange(mixed, _folder.File("upcast"), (name, i) => ("model-1.safetensors", TensorType.Float32, i));
        Assert.Equal(Logits(upcast), Logits(mixed));
        Assert.NotEqual(Logits(before), Logits(mixed));
        using CausalLanguageModel lm = new(mixed, threads: 1);
        float[] first = lm.Logits([3, 1, 4, 1, 5]);
        using CausalLanguageModel same = new(upcast, threads: 1);
        Assert.Equal(same.Logits([3, 1, 4, 1, 5]), first);
    }

    [Theory]
    [InlineData("num_experts", "0")]
    [InlineData("num_experts", "70000")]
    [InlineData("num_experts", "\"many\"")]
    [InlineData("num_experts_per_tok", "8")]
    [InlineData("num_experts_per_tok", "null")]
    [InlineData("moe_intermediate_size", "-3")]
    [InlineData("moe_intermediate_size", "null")]
    [InlineData("decoder_sparse_step", "0")]
    [InlineData("mlp_only_layers", "[1, -1]")]
    [InlineData("mlp_only_layers", "[1.5]")]
    [InlineData("mlp_only_layers", "3")]
    [InlineData("norm_topk_prob", "1")]
    [InlineData("shared_expert_intermediate_size", "null")]
    [InlineData("router_aux_loss_coef", "-1")]
    [InlineData("output_router_logits", "\"yes\"")]
    [InlineData("num_local_experts", "5")]
    public void A_field_that_makes_no_sense_is_named(string field, string value)
    {
        MixtureModel.WriteConfig(_folder.Path, "qwen2_moe", (field, JsonNode.Parse(value)));
        string message = Assert.Throws<CheckpointException>(() => QwenConfig.Read(_folder.Path)).Message;
        Assert.Contains(field == "num_local_experts" ? "num_experts" : field, message, StringComparison.Ordinal);
        Assert.Contains("config.json", message, StringComparison.Ordinal);
    }

    [Fact]
    public void More_experts_than_any_checkpoint_has_in_all_its_layers_are_refused_before_they_are_listed()
    {
        MixtureModel.WriteConfig(_folder.Path, "qwen3_moe", ("num_experts", 65_536), ("num_hidden_layers", 100));
        string message = Assert.Throws<CheckpointException>(() => QwenConfig.Read(_folder.Path)).Message;
        Assert.Contains("num_experts is 65536; it must be at most 10485 with 100 layers", message, StringComparison.Ordinal);
        MixtureModel.WriteConfig(_folder.Path, "qwen3_moe", ("num_experts", null), ("num_local_experts", 65_536), ("num_hidden_layers", 100));
        message = Assert.Throws<CheckpointException>(() => QwenConfig.Read(_folder.Path)).Message;
        Assert.Contains("num_local_experts is 65536", message, StringComparison.Ordinal);
        MixtureModel.WriteConfig(_folder.Path, "qwen3_moe", ("num_experts", 512), ("num_hidden_layers", 94));
        Assert.Equal(512, QwenConfig.Read(_folder.Path).Experts!.Count);
    }

    [Fact]
    public void Factors_of_more_experts_than_fit_into_memory_are_refused_and_not_counted_around()
    {
        MixtureModel.WriteConfig(_folder.Path, "qwen3_moe", ("num_experts", 65_536));
        QwenConfig config = QwenConfig.Read(_folder.Path);
        LoraOptions options = new() { Rank = 16_384, Dropout = 0, TargetModules = ["gate_proj", "up_proj"] };
        LoraModule module = LoraTargets.Resolve(options, new Qwen3Moe(), config)[0];
        Assert.Equal(32_768L * 65_536, module.Ranks);
        Assert.Contains("Rank is 32768", Assert.Throws<OptionException>(() => LoraAdapter.RequireSize(module)).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1, "[]", "111")]
    [InlineData(1, "[0, 2]", "010")]
    [InlineData(2, "[]", "010")]
    [InlineData(3, "[2]", "000")]
    [InlineData(1, "null", "111")]
    public void Layers_are_sparse_where_transformers_makes_them(int step, string dense, string expected)
    {
        MixtureModel.WriteConfig(_folder.Path, "qwen3_moe", ("decoder_sparse_step", step), ("mlp_only_layers", JsonNode.Parse(dense)));
        QwenConfig config = QwenConfig.Read(_folder.Path);
        Assert.Equal(expected, string.Concat(config.Experts!.IsSparse.Select(sparse => sparse ? '1' : '0')));
        string[] names = [.. new Qwen3Moe().Tensors(config).Select(tensor => tensor.Name)];
        Assert.All(Enumerable.Range(0, 3), layer =>
            Assert.Contains($"model.layers.{layer}.mlp.{(expected[layer] == '1' ? "experts.6.up_proj" : "up_proj")}.weight", names));
    }

    [Theory]
    [InlineData("qwen2_moe", null, "9··")]
    [InlineData("qwen2_moe", "full_attention sliding_attention full_attention", "·9·")]
    [InlineData("qwen3_moe", null, "999")]
    [InlineData("qwen3_moe", "full_attention sliding_attention full_attention", "999")]
    public void Windows_slide_where_transformers_lets_them(string modelType, string? types, string expected)
    {
        MixtureModel.WriteConfig(_folder.Path, modelType, ("use_sliding_window", true), ("sliding_window", 9), ("max_window_layers", 2),
            ("layer_types", types is null ? null : new JsonArray([.. types.Split(' ').Select(type => (JsonNode)type)])));
        Assert.Equal(expected, string.Concat(
            QwenConfig.Read(_folder.Path).SlidingWindows.Select(window => window is { } size ? FormattableString.Invariant($"{size}") : "·")));
    }

    [Fact]
    public void A_loss_that_balances_experts_is_refused_in_training_alone()
    {
        Checkpoint asked = MixtureModel.Write(_folder.File("asked"), "qwen3_moe", ("output_router_logits", true), ("router_aux_loss_coef", 0.01));
        string message = Assert.Throws<CheckpointException>(() => Train(asked, new TrainingOptions())).Message;
        Assert.Contains("output_router_logits", message, StringComparison.Ordinal);
        using CausalLanguageModel lm = new(asked, threads: 1);
        Assert.Equal(TinyModel.Vocabulary, lm.Logits([1, 2, 3]).Length);
        Train(MixtureModel.Write(_folder.File("none"), "qwen3_moe", ("output_router_logits", true), ("router_aux_loss_coef", 0.0)), new TrainingOptions());
    }

    [Fact]
    public void Training_every_weight_is_refused_by_name()
    {
        MixtureModel.Write(_folder.Path);
        string message = Assert.Throws<OptionException>(() => FullTraining.Train(
            _folder.Path, [TinyModel.Row(new Random(1), 6)], new TrainingOptions(), _folder.File("out.safetensors"), TensorType.Float32)).Message;
        Assert.Contains("mixture of experts", message, StringComparison.Ordinal);
        Assert.Contains(nameof(LoraOptions.TargetParameters), message, StringComparison.Ordinal);
    }

    [Fact]
    public void Experts_that_are_quantized_in_the_file_are_refused_by_name()
    {
        Checkpoint whole = MixtureModel.Write(_folder.File("whole"));
        SafetensorsWriter.Write(_folder.File("whole/model.safetensors"), [.. whole.Tensors.Values.Select(tensor =>
            tensor.Entry.Name.EndsWith("experts.2.up_proj.weight", StringComparison.Ordinal)
                ? new SafetensorsWriter.Item(tensor.Entry.Name, TensorType.UInt8, [tensor.Entry.Count / 2, 1], stream =>
                    stream.Write(new byte[tensor.Entry.Count / 2]))
                : SafetensorsWriter.Item.From(tensor.Entry.Name, TensorType.Float32, tensor.Entry.Shape, new float[tensor.Entry.Count]))]);
        string message = Assert.Throws<CheckpointException>(() => Checkpoint.Open(_folder.File("whole"))).Message;
        Assert.Contains("experts.2.up_proj", message, StringComparison.Ordinal);
        Assert.Contains("quantized", message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(WeightPrecision.Int8, 0.02)]
    [InlineData(WeightPrecision.Int4, 0.3)]
    [InlineData(WeightPrecision.Nf4, 0.3)]
    public void Linear_layers_are_quantized_in_generation_and_experts_are_not(WeightPrecision precision, double most)
    {
        Checkpoint checkpoint = Wide("qwen2_moe");
        int[] prompt = [3, 1, 4, 1, 5, 9, 2, 6];
        using CausalLanguageModel whole = new(checkpoint, threads: 1);
        using CausalLanguageModel quantized = new(checkpoint, threads: 1, precision: precision);
        double difference = GoldenFile.RelativeError(quantized.Logits(prompt), whole.Logits(prompt));
        Assert.InRange(difference, 1e-6, most);
        Assert.All(new BlockWeights(checkpoint, WeightPrecision.Int8).Packed, tensor =>
            Assert.DoesNotContain(".experts.", tensor.Name, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(WeightPrecision.Int8, 0.05)]
    [InlineData(WeightPrecision.Nf4, 0.5)]
    public void Linear_layers_are_quantized_in_training_and_experts_are_not(WeightPrecision precision, double most)
    {
        Checkpoint checkpoint = Wide("qwen2_moe");
        double whole = Train(checkpoint, new TrainingOptions());
        double quantized = Train(checkpoint, new TrainingOptions { Precision = precision });
        Assert.NotEqual(whole, quantized);
        Assert.InRange(Math.Abs(quantized - whole) / whole, 0, most);
    }

    [Fact]
    public void Memory_counts_the_experts_of_a_token_and_not_all_there_are()
    {
        MixtureModel.WriteConfig(_folder.File("a"));
        MixtureModel.WriteConfig(_folder.File("b"), "qwen3_moe", ("num_experts", 70));
        MixtureModel.WriteConfig(_folder.File("c"), "qwen3_moe", ("num_experts_per_tok", 4));
        MixtureModel.WriteConfig(_folder.File("d"), "qwen2_moe");
        long few = Activations("a");
        Assert.Equal(few, Activations("b"));
        const long tokens = 10;
        const long layers = 2; // with experts

        // Two experts more: gate and up of each layer are kept, what they return is there three times, once.
        Assert.Equal(few + (sizeof(float) * tokens * ((layers * 2 * 2 * 12) + (3 * 2 * 16))), Activations("c"));
        Assert.Equal(few + (sizeof(float) * tokens * layers * 2 * 20), Activations("d"));
        Assert.Equal(6 * 16 * 12 * 3, EngineMemory.Of(TinyModel.WriteWeights(_folder.File("a")), null)); // one expert, stored and upcast

        long Activations(string name)
        {
            TrainingTarget target = TrainingTarget.Full(QwenConfig.Read(_folder.File(name)));
            return MemoryEstimate.Of(target, new TrainingOptions { BatchSize = 1 }, ChunkPlan.Whole, [[TinyModel.Row(new Random(1), (int)tokens)]]).Activations;
        }
    }

    [Fact]
    public void A_graph_does_not_grow_with_the_experts_and_their_weights_stay_in_the_file()
    {
        Checkpoint few = MixtureModel.Write(_folder.File("few"));
        Checkpoint many = MixtureModel.Write(_folder.File("many"), "qwen3_moe", ("num_experts", 200));
        Assert.Equal(Nodes(few), Nodes(many));
        ModelArtifact artifact = InferenceModel.Build(many, new AdapterParts([], [], null));
        Assert.InRange(artifact.Bytes.Length, 1, 200_000); // 0.35 million numbers of experts lie outside

        static int Nodes(Checkpoint checkpoint)
        {
            MLNetLora.Onnx.GraphBuilder graph = new("training");
            TrainingModel.Training(TrainingTarget.Lora(checkpoint, Lora()), checkpointing: true, ChunkPlan.Whole, graph);
            return graph.NodeCount;
        }
    }

    private static LoraOptions Lora() => new() { Rank = 2, Dropout = 0, TargetModules = ["q_proj", "v_proj"] };

    /// <summary>Layers that are wide enough for blocks of 128, and every expert for every token, so that nothing depends on which are the most
    /// likely.</summary>
    private Checkpoint Wide(string modelType)
    {
        Checkpoint large = MixtureModel.Write(_folder.File("wide"), modelType, ("hidden_size", 128), ("intermediate_size", 128),
            ("num_experts", 4), ("num_experts_per_tok", 4), ("moe_intermediate_size", 64), ("shared_expert_intermediate_size", 128), ("head_dim", 32));
        SafetensorsWriter.Write(_folder.File("wide/model.safetensors"), [.. large.Tensors.Values.Select(tensor => SafetensorsWriter.Item.From(
            tensor.Entry.Name, TensorType.Float32, tensor.Entry.Shape,
            tensor.ReadFloat32().Select(value => tensor.Entry.Shape.Count == 1 ? value : value / 4).ToArray()))]);
        return Checkpoint.Open(large.Folder);
    }

    private static double Train(Checkpoint checkpoint, TrainingOptions options)
    {
        Random random = new(1);
        TrainingRow[] rows = [.. Enumerable.Range(0, 3).Select(_ => TinyModel.Row(random, 9))];
        options.Threads = 1;
        options.NumberOfEpochs = 1;
        (_, TrainingSummary summary) = LoraTraining.Train(checkpoint, Lora(), rows, options);
        return summary.Steps[0].Loss;
    }

    private static float[] Logits(Checkpoint checkpoint)
    {
        Random random = new(5);
        TrainingRow[] rows = [.. Enumerable.Range(0, 2).Select(_ => TinyModel.Row(random, 12))];
        return LogitsRun.Run(checkpoint, null, Batch.Of(rows)).Logits;
    }
}
