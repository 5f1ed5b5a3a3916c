using System.Text.Json.Nodes;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Models;

/// <summary>What Qwen3.5 has and the other families have not: a state that goes from token to token, and text beside a vision tower.</summary>
public sealed class Qwen35Tests : IDisposable
{
    private const string Wrapped = "qwen3_5";
    private const string Text = "qwen3_5_text";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Rows of several chunks of the delta rule, packed: borders inside chunks and on them.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Long_packed_rows_give_the_loss_and_gradients_of_the_same_rows_apart(bool checkpointing)
    {
        TinyModel.WriteConfig(_folder.File("model"), Text, tied: true, positions: 512);
        TrainingTarget target = TrainingTarget.Full(QwenConfig.Read(_folder.File("model")));
        TrainingOptions options = new() { Threads = 1, ActivationCheckpointing = checkpointing };
        using TrainingSession session = new(target, options, new ChunkPlan(2, 4, RecomputeAttention: checkpointing));
        Random random = new(5);
        TinyModel.Fill(session.Parameters, random);
        TrainingRow[] rows = [.. ((int[])[64, 70, 1, 60, 150, 45]).Select(length => TinyModel.Row(random, length))];
        long labels = rows.Sum(row => (long)row.LabelTokens);
        double apart = rows.Sum(row => session.Accumulate(Batch.Of([row], 4), labels));
        float[] expected = session.Parameters.Gradients.Span(0, (int)session.Parameters.Gradients.Length).ToArray();
        session.Parameters.Gradients.Clear();
        double together = session.Accumulate(Batch.Of([rows[..4], rows[4..]], 4), labels);
        Assert.Equal(apart, together, 1e-5);
        Assert.InRange(GoldenFile.RelativeError(session.Parameters.Gradients.Span(0, expected.Length), expected), 0, 1e-5);
    }

    [Fact]
    public void Padding_on_the_right_changes_nothing()
    {
        TinyModel.WriteConfig(_folder.File("model"), Text, tied: false);
        TrainingTarget target = TrainingTarget.Full(QwenConfig.Read(_folder.File("model")));
        using TrainingSession session = new(target, new TrainingOptions { Threads = 1 }, ChunkPlan.Whole);
        Random random = new(5);
        TinyModel.Fill(session.Parameters, random);
        TrainingRow row = TinyModel.Row(random, 21);
        double loss = session.Accumulate(Batch.Of([row]), 14);
        float[] expected = session.Parameters.Gradients.Span(0, (int)session.Parameters.Gradients.Length).ToArray();
        foreach (int multiple in (ReadOnlySpan<int>)[32, 64, 100])
        {
            session.Parameters.Gradients.Clear();
            Assert.Equal(loss, session.Accumulate(Batch.Of([row], multiple), 14), 1e-6);
            Assert.InRange(GoldenFile.RelativeError(session.Parameters.Gradients.Span(0, expected.Length), expected), 0, 2e-6);
        }
    }

    /// <summary>Of prompts in one batch some are read in parts, some with padding, and some answers end long before others.</summary>
    [Fact]
    public void Answers_are_those_of_the_training_graph_whatever_stands_beside_them()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), Wrapped, positions: 4096);
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        Random random = new(3);
        int[][] prompts = [.. ((int[])[1100, 2, 513, 64, 1, 2100]).Select(length => TinyModel.Row(random, length).InputIds)];
        IReadOnlyList<GeneratedIds> answers = lm.Generate(
            prompts, new GenerationOptions { MaximumNewTokens = 40 }, (row, _) => row == 3 && random.Next(4) == 0);
        for (int r = 0; r < prompts.Length; r++)
        {
            int[] ids = [.. prompts[r], .. answers[r].Ids];
            long[] positions = [.. Enumerable.Range(prompts[r].Length - 1, answers[r].Ids.Count).Select(i => (long)i)];
            Batch batch = Batch.Of([new TrainingRow(ids, ids)]) with { LabelPositions = positions, LabelIds = new long[positions.Length] };
            float[][] scores = [.. LogitsRun.Run(checkpoint, null, batch).Logits.Chunk(TinyModel.Vocabulary)];
            for (int i = 0; i < positions.Length; i++)
            {
                Assert.True(scores[i][answers[r].Ids[i]] >= scores[i].Max() - 1e-3f, $"prompt {r}, token {i}");
            }
        }
    }

    [Theory]
    [InlineData("text_config", "null", "has no text_config")]
    [InlineData("text_config.model_type", "\"qwen3\"", "text_config.model_type is \"qwen3\"; it must be qwen3_5_text")]
    [InlineData("text_config.attn_output_gate", "false", "text_config.attn_output_gate is false; it must be true")]
    [InlineData("text_config.layer_types", "[\"linear_attention\"]", "it must be a list of linear_attention and full_attention, one for each of the 2 layers")]
    [InlineData("text_config.layer_types", "[\"full_attention\",\"mamba\"]", "it must be a list of linear_attention and full_attention")]
    [InlineData("text_config.layer_types", "7", "text_config.layer_types is 7; it must be a list")]
    [InlineData("text_config.layer_types", "[1, 2]", "text_config.layer_types is [1,2]; it must be a list of at most 10000 texts")]
    [InlineData("text_config.linear_num_value_heads", "3", "linear_num_value_heads is 3; it must be a multiple of linear_num_key_heads, 2")]
    [InlineData("text_config.linear_num_key_heads", "5000", "linear_num_key_heads is 5000; it must be a whole number of at least 1 and at most 1024")]
    [InlineData("text_config.linear_key_head_dim", "0", "linear_key_head_dim is 0")]
    [InlineData("text_config.linear_value_head_dim", "\"5\"", "linear_value_head_dim is \"5\"")]
    [InlineData("text_config.linear_conv_kernel_dim", "1", "linear_conv_kernel_dim is 1; it must be a whole number of at least 2")]
    [InlineData("text_config.partial_rotary_factor", "0.1", "such that an even number of a head's 16 dimensions is rotated")]
    [InlineData("text_config.partial_rotary_factor", "1.5", "partial_rotary_factor is 1.5; it must be above 0 and at most 1")]
    [InlineData("text_config.rope_parameters", "{\"partial_rotary_factor\":-1}", "rope_parameters.partial_rotary_factor is -1")]
    [InlineData("text_config.linear_conv_kernel_dim", "4", "has the shape [44, 1, 3], but config.json asks for [44, 1, 4]")]
    [InlineData("text_config.layer_types", "null", "has no tensor 'model.language_model.layers.0.linear_attn.in_proj_qkv.weight'")]
    public void A_configuration_that_does_not_fit(string field, string value, string message)
    {
        TinyModel.WriteCheckpoint(_folder.File("model"), Wrapped);
        string path = Path.Combine(_folder.File("model"), "config.json");
        JsonNode config = JsonNode.Parse(File.ReadAllText(path))!;
        JsonNode section = config;
        string[] names = field.Split('.');
        foreach (string name in names.SkipLast(1))
        {
            section = section[name]!;
        }

        section[names[^1]] = JsonNode.Parse(value);
        File.WriteAllText(path, config.ToJsonString());
        CheckpointException error = Assert.Throws<CheckpointException>(() => Checkpoint.Open(_folder.File("model")));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_config_json_does_not_say_is_as_in_transformers()
    {
        Directory.CreateDirectory(_folder.File("model"));
        File.WriteAllText(Path.Combine(_folder.File("model"), "config.json"), """
            {"model_type":"qwen3_5","tie_word_embeddings":true,"eos_token_id":5,"text_config":{"model_type":"qwen3_5_text","hidden_size":1024,"vocab_size":100,
            "intermediate_size":3584,"num_hidden_layers":8,"num_attention_heads":8,"num_key_value_heads":2,"eos_token_id":[6,7],
            "rope_parameters":{"rope_type":"default","rope_theta":10000000,"mrope_section":[11,11,10],"mrope_interleaved":true}}}
            """);
        QwenConfig config = QwenConfig.Read(_folder.File("model"));
        Assert.Equal((256, 64, true, false), (config.HeadDim, config.RotaryDim, config.TieWordEmbeddings, config.AttentionBias));
        Assert.Equal([5, 6, 7], config.EosTokenIds);
        GatedDeltaNet d = config.DeltaNet!;
        Assert.Equal((16, 128, 32, 128, 4), (d.KeyHeads, d.KeyDim, d.ValueHeads, d.ValueDim, d.Taps));
        Assert.Equal([true, true, true, false, true, true, true, false], d.Layers);
        Assert.Equal(new RopeParameters("default", 1e7), config.Rope);
    }

    /// <summary>The vision tower and the layers for several tokens at once: not asked for, not trained, counted as PEFT counts, and in the merge as they
    /// were.</summary>
    [Fact]
    public void What_text_never_touches_is_left_alone_and_copied_by_a_merge()
    {
        Checkpoint plain = TinyModel.WriteCheckpoint(_folder.File("plain"), Wrapped, type: TensorType.BFloat16);
        string folder = _folder.File("model");
        Directory.CreateDirectory(folder);
        File.Copy(Path.Combine(plain.Folder, "config.json"), Path.Combine(folder, "config.json"));
        float[] vision = [.. Enumerable.Range(0, 12).Select(i => (float)i)];
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"),
        [
            .. plain.Tensors.Values.Select(tensor =>
                SafetensorsWriter.Item.From(tensor.Entry.Name, TensorType.BFloat16, tensor.Entry.Shape, tensor.ReadFloat32())),
            SafetensorsWriter.Item.From("model.visual.blocks.0.attn.qkv.weight", TensorType.Float16, [3, 4], vision),
            SafetensorsWriter.Item.From("mtp.layers.0.self_attn.q_proj.weight", TensorType.Float32, [4, 3], vision),
        ]);
        Checkpoint checkpoint = Checkpoint.Open(folder);
        Assert.Equal(plain.ParameterCount + 12, checkpoint.ParameterCount);
        LoraOptions options = new() { Rank = 2, TargetModules = "all-linear" };
        LoraAdapter adapter = LoraAdapter.Create(options, checkpoint, 1);
        Assert.All(adapter.Factors, f => Assert.StartsWith("base_model.model.model.language_model.layers.", f.Module.KeyA, StringComparison.Ordinal));
        Random random = new(1);
        foreach (LoraFactors factors in adapter.Factors)
        {
            factors.B.AsSpan().Fill(0.1f * (random.NextSingle() - 0.5f));
        }

        Merge.Save(checkpoint, adapter, _folder.File("merged"));
        Checkpoint merged = Checkpoint.Open(_folder.File("merged"));
        SafetensorsFile file = merged.Files[0];
        Assert.Equal(checkpoint.Files[0].Tensors.Keys.Order(), file.Tensors.Keys.Order());
        Assert.Equal(vision, file.ReadFloat32(file.Tensors["model.visual.blocks.0.attn.qkv.weight"]));
        Assert.Equal(vision, file.ReadFloat32(file.Tensors["mtp.layers.0.self_attn.q_proj.weight"]));
        foreach (string name in checkpoint.Tensors.Keys)
        {
            bool isAdapted = adapter.Factors.Any(f => f.Module.Module.Name + ".weight" == name);
            Assert.Equal(isAdapted, !checkpoint.Tensors[name].ReadFloat32().SequenceEqual(merged.Tensors[name].ReadFloat32()));
        }

        using CausalLanguageModel attached = new(checkpoint, adapter, threads: 1);
        using CausalLanguageModel alone = new(merged, threads: 1);
        Assert.InRange(GoldenFile.RelativeError(alone.Logits([3, 4, 5, 6]), attached.Logits([3, 4, 5, 6])), 0, 0.02); // bfloat16
    }

    [Fact]
    public void Biases_and_norms_are_trained_with_an_adapter_but_no_module_of_linear_layers()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("model"), Text);
        LoraAdapter adapter = LoraAdapter.Create(
            new LoraOptions { Rank = 2, TargetModules = ["in_proj_qkv"], Bias = LoraBias.All, ModulesToSave = ["conv1d", "linear_attn.norm"] }, checkpoint, 1);
        Assert.Equal(["conv1d.weight", "dt_bias", "norm.weight"], adapter.Saved.Select(saved => saved.Tensor.Base.Name.Split("linear_attn.")[1]));
        AdapterException error = Assert.Throws<AdapterException>(() =>
            LoraAdapter.Create(new LoraOptions { Rank = 2, TargetModules = ["q_proj"], ModulesToSave = ["linear_attn"] }, checkpoint, 1));
        Assert.Contains("'linear_attn'", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(WeightPrecision.Int8, 0.1)]
    [InlineData(WeightPrecision.Int4, 0.5)]
    [InlineData(WeightPrecision.Nf4, 0.5)]
    public void It_answers_from_quantized_weights(object weightPrecision, double tolerance)
    {
        WeightPrecision precision = (WeightPrecision)weightPrecision;
        Checkpoint checkpoint = WriteLarger();
        int[] prompt = TinyModel.Row(new Random(2), 20).InputIds;
        using CausalLanguageModel exact = new(checkpoint, threads: 1);
        using CausalLanguageModel quantized = new(checkpoint, threads: 1, precision: precision);
        Assert.InRange(GoldenFile.RelativeError(quantized.Logits(prompt), exact.Logits(prompt)), 1e-6, tolerance);
    }

    [Fact]
    public void It_is_trained_with_products_of_8_bit_integers()
    {
        Checkpoint checkpoint = WriteLarger();
        Assert.InRange(GoldenFile.RelativeError(Gradients(checkpoint, WeightPrecision.Int8), Gradients(checkpoint, WeightPrecision.Checkpoint)), 1e-6, 0.2);
    }

    [Fact]
    public void On_4_bit_weights_gradients_are_those_of_the_same_weights_in_32_bits()
    {
        Checkpoint checkpoint = WriteLarger();
        Checkpoint packed = FourBitCache.Open(checkpoint, WeightPrecision.Nf4);
        Assert.Equal(checkpoint.Architecture.Linears(checkpoint.Config).Count(), packed.Tensors.Values.Count(tensor => tensor.FourBit is not null));
        string folder = _folder.File("unpacked");
        Directory.CreateDirectory(folder);
        File.Copy(Path.Combine(checkpoint.Folder, "config.json"), Path.Combine(folder, "config.json"));
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), [.. packed.Tensors.Select(tensor =>
            SafetensorsWriter.Item.From(tensor.Key, TensorType.Float32, tensor.Value.Entry.Shape, tensor.Value.ReadFloat32()))]);
        float[] expected = Gradients(Checkpoint.Open(folder), WeightPrecision.Checkpoint);
        Assert.InRange(GoldenFile.RelativeError(Gradients(checkpoint, WeightPrecision.Nf4), expected), 0, 1e-4);
        Assert.True(GoldenFile.RelativeError(Gradients(checkpoint, WeightPrecision.Checkpoint), expected) > 0.01);
    }

    private static float[] Gradients(Checkpoint checkpoint, WeightPrecision precision)
    {
        TrainingRow[][] rows = [[TinyModel.Row(new Random(2), 40)], [TinyModel.Row(new Random(3), 30)]];
        LoraOptions lora = new() { Rank = 4, Dropout = 0, TargetModules = "all-linear" };
        TrainingOptions options = new() { Threads = 1, Precision = precision };
        TrainingTarget target = Calibration.Prepare(TrainingTarget.Lora(checkpoint, lora), options, ChunkPlan.Whole, rows);
        using TrainingSession session = new(target, options, ChunkPlan.Whole);
        LoraParameters.Load(session.Parameters, LoraAdapter.Create(lora, checkpoint, 1));
        Batch batch = Batch.Of(rows);
        session.Accumulate(batch, batch.LabelIds.Length);
        return session.Parameters.Gradients.Span(0, (int)session.Parameters.Gradients.Length).ToArray();
    }

    [Fact]
    public void A_model_is_trained_from_nothing()
    {
        TinyModel.WriteConfig(_folder.File("model"), Wrapped, tied: true);
        Random random = new(11);
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(_ => TinyModel.Row(random, 8))];
        TrainingOptions options = new() { BatchSize = 4, GradientAccumulationSteps = 1, NumberOfEpochs = 150, LearningRate = 1e-2, Threads = 1 };
        TrainingSummary summary = FullTraining.Train(_folder.File("model"), rows, options, Path.Combine(_folder.File("model"), "model.safetensors"),
            TensorType.Float32);
        Assert.True(summary.Steps[0].Loss > 2.5);
        Assert.True(summary.Steps[^1].Loss < 0.1, $"loss {summary.Steps[^1].Loss}");
        _ = Checkpoint.Open(_folder.File("model"));

        // Before the first step as transformers makes them: norms that store their factors less one at zero, the others at one, a rate for each head.
        Dictionary<string, float[]> drawn = [];
        foreach (TensorSpec spec in Architecture.Find(Wrapped, "").Tensors(QwenConfig.Read(_folder.File("model"))).Where(spec => spec.Initial is not null))
        {
            drawn[spec.Name.Split('.', 4)[^1]] = [.. Enumerable.Range(0, 50).Select(_ => spec.Initial!(random))];
        }

        IEnumerable<float[]> norms = drawn.Where(tensor => tensor.Key.EndsWith("norm.weight", StringComparison.Ordinal)).Select(tensor => tensor.Value);
        Assert.All(norms, values => Assert.All(values, v => Assert.Equal(0, v)));
        Assert.DoesNotContain(drawn.Keys, name => name.EndsWith("linear_attn.norm.weight", StringComparison.Ordinal));
        float[] rates = drawn.Single(tensor => tensor.Key.EndsWith("A_log", StringComparison.Ordinal)).Value;
        Assert.All(rates, rate => Assert.InRange(Math.Exp(rate), 0.01, 16.001));
        Assert.True(rates.Distinct().Count() > 40);
        Assert.All(drawn.Single(tensor => tensor.Key.EndsWith("dt_bias", StringComparison.Ordinal)).Value, v => Assert.Equal(1, v));
    }

    /// <summary>The whole path in the published layout: Fit, Transform, zip, merge.</summary>
    [Fact]
    public void Trained_answers_come_back_from_the_zip_and_from_the_merge()
    {
        string model = _folder.File("model");
        TinyModel.WriteConfig(model, Wrapped, tied: true, positions: 256);
        string config = Path.Combine(model, "config.json");
        File.WriteAllText(config, File.ReadAllText(config)
            .Replace("\"vocab_size\":24", "\"vocab_size\":5632", StringComparison.Ordinal)
            .Replace("\"hidden_size\":16", "\"hidden_size\":64", StringComparison.Ordinal)); // in 16 dimensions not every token can be the likeliest
        foreach (string name in (string[])["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
        {
            File.Copy(Path.Combine(Repository.Nano, name), Path.Combine(model, name));
        }

        TinyModel.WriteWeights(model);
        MLContext ml = new(seed: 1);
        Row[] rows = [new() { Instruction = "hello", Output = "Good day." }];
        IDataView data = ml.Data.LoadFromEnumerable(rows);
        using QwenLoraTransformer trained = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = model,
            TargetModules = "all-linear",
            Rank = 16,
            Alpha = 32,
            Dropout = 0,
            LearningRate = 1e-2,
            NumberOfEpochs = 60,
            BatchSize = 1,
            GradientAccumulationSteps = 1,
            Generation = new GenerationOptions { MaximumNewTokens = 20 },
        }).Fit(data);
        Assert.Equal("Good day.", Answer(ml, trained, data));

        string zip = _folder.File("model.zip");
        ml.Model.Save(trained, data.Schema, zip);
        using QwenLoraTransformer loaded = (QwenLoraTransformer)new MLContext().Model.Load(zip, out _);
        Assert.Equal("Good day.", Answer(ml, loaded, data));

        trained.MergeAndSave(_folder.File("merged"));
        using TextGenerator merged = new(Checkpoint.Open(_folder.File("merged")));
        Assert.Equal("Good day.", merged.Generate([new InstructionRow("hello")], new GenerationOptions { MaximumNewTokens = 20 })[0].Text);
    }

    private static string Answer(MLContext ml, QwenLoraTransformer model, IDataView data) =>
        ml.Data.CreateEnumerable<Reply>(model.Transform(data), reuseRowObject: false).Single().Answer;

    /// <summary>Layers wide enough for blocks of 128.</summary>
    private Checkpoint WriteLarger()
    {
        string folder = _folder.File("larger");
        TinyModel.WriteConfig(folder, Text, tied: false);
        string path = Path.Combine(folder, "config.json");
        JsonNode config = JsonNode.Parse(File.ReadAllText(path))!;
        config["hidden_size"] = 128;
        config["intermediate_size"] = 256;
        config["head_dim"] = 32;
        config["linear_key_head_dim"] = 32;
        config["linear_value_head_dim"] = 32;
        File.WriteAllText(path, config.ToJsonString());
        Random random = new(7);
        QwenConfig read = QwenConfig.Read(folder);
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), [.. Architecture.Find(Text, "").Tensors(read).Select(spec =>
        {
            float[] values = new float[spec.Shape.Aggregate(1L, (product, size) => product * size)];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = spec.Decays ? (random.NextSingle() - 0.5f) * 0.3f : spec.Initial?.Invoke(random) ?? 1;
            }

            return SafetensorsWriter.Item.From(spec.Name, TensorType.Float32, spec.Shape, values);
        })]);
        return Checkpoint.Open(folder);
    }

    private sealed class Row
    {
        public string Instruction { get; set; } = "";

        public string Output { get; set; } = "";
    }

    private sealed class Reply
    {
        public string Answer { get; set; } = "";
    }
}
