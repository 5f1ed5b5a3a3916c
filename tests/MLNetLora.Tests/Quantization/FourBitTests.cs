using System.Text;
using System.Text.Json.Nodes;
using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests.TextGeneration;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.Quantization;

/// <summary>Bases in 4 bits: the codes, the cache, what is trained and answered with, and what is refused. Against bitsandbytes see QloraGoldenTests.</summary>
[Collection(Alone.Name)]
public sealed class FourBitTests : IDisposable
{
    private static readonly WeightPrecision[] s_all = [WeightPrecision.Nf4, WeightPrecision.Nf4Double, WeightPrecision.Fp4, WeightPrecision.Fp4Double];

    private readonly TemporaryFolder _folder = new();
    private readonly string? _cache = Environment.GetEnvironmentVariable(FourBitCache.Variable);

    public FourBitTests() => Environment.SetEnvironmentVariable(FourBitCache.Variable, _folder.File("cache"));

    public void Dispose()
    {
        Environment.SetEnvironmentVariable(FourBitCache.Variable, _cache);
        _folder.Dispose();
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Every_code_is_the_nearest_level(int which)
    {
        FourBitType type = (FourBitType)which;
        Random random = new(1);
        float[] values = [.. Enumerable.Range(0, 64 * 50).Select(i => i / 64 == 7 ? 0f : (random.NextSingle() - 0.5f) * (i / 64))];
        byte[] packed = new byte[values.Length / 2];
        float[] absmax = new float[50];
        FourBitCode.Quantize(type, values, packed, absmax);
        float[] levels = FourBitCode.Levels(type).ToArray();
        for (int b = 0; b < absmax.Length; b++)
        {
            Assert.Equal(values.AsSpan(b * 64, 64).ToArray().Max(Math.Abs), absmax[b]);
            float[] back = new float[64];
            FourBitCode.Dequantize(type, packed.AsSpan(b * 32), 0, absmax[b], back);
            for (int i = 0; i < 64; i++)
            {
                float value = values[(b * 64) + i];
                float nearest = levels.Min(level => Math.Abs((level * absmax[b]) - value));
                Assert.InRange(Math.Abs(back[i] - value), 0, nearest + (1e-6f * absmax[b]));
            }
        }
    }

    [Fact]
    public void The_second_start_finds_what_the_first_has_written()
    {
        Checkpoint checkpoint = Write();
        Checkpoint first = FourBitCache.Open(checkpoint, WeightPrecision.Nf4Double);
        string file = Assert.Single(Directory.GetFiles(_folder.File("cache")));
        DateTime written = File.GetLastWriteTimeUtc(file);
        Checkpoint second = FourBitCache.Open(Checkpoint.Open(checkpoint.Folder), WeightPrecision.Nf4Double);
        Assert.Equal(written, File.GetLastWriteTimeUtc(file));
        string name = first.Architecture.Linears(first.Config).First().Name + ".weight";
        Assert.Equal(first.Tensors[name].ReadFloat32(), second.Tensors[name].ReadFloat32());

        // Other weights under the same name have another file, and one that was cut short is written again.
        TinyModel.WriteWeights(checkpoint.Folder, seed: 2);
        Checkpoint other = FourBitCache.Open(Checkpoint.Open(checkpoint.Folder), WeightPrecision.Nf4Double);
        Assert.Equal(2, Directory.GetFiles(_folder.File("cache")).Length);
        Assert.NotEqual(first.Tensors[name].ReadFloat32(), other.Tensors[name].ReadFloat32());
        foreach (string each in Directory.GetFiles(_folder.File("cache")))
        {
            using FileStream stream = File.OpenWrite(each);
            stream.SetLength(stream.Length - 100);
        }

        Assert.True(FourBitCache.Open(Checkpoint.Open(checkpoint.Folder), WeightPrecision.Nf4Double).IsFourBit);
    }

    [Fact]
    public void Any_rows_are_read_as_the_whole_is()
    {
        foreach (WeightPrecision precision in s_all)
        {
            Checkpoint checkpoint = FourBitCache.Open(Write(), precision);
            CheckpointTensor tensor = checkpoint.Tensors.Values.Last(t => t.FourBit is not null && t.Entry.Shape[1] % 64 != 0);
            (int rows, int columns) = ((int)tensor.Entry.Shape[0], (int)tensor.Entry.Shape[1]);
            float[] whole = tensor.ReadFloat32();
            using TensorRows source = new(checkpoint.Files);
            float[] part = new float[3 * columns];
            for (int first = 0; first + 3 <= rows; first++)
            {
                source.Read(tensor, first, part);
                Assert.Equal(whole[(first * columns)..((first + 3) * columns)], part);
            }
        }
    }

    [Fact]
    public void An_engine_answers_as_the_training_graph_computes()
    {
        foreach (WeightPrecision precision in s_all)
        {
            Checkpoint checkpoint = Write();
            int[] prompt = TinyModel.Row(new Random(2), 20).InputIds;
            (_, float[] exact) = LogitsRun.Run(FourBitCache.Open(checkpoint, precision), null, Batch.Of([new TrainingRow(prompt, prompt)]) with
            {
                LabelPositions = [prompt.Length - 1],
                LabelIds = [0],
            });
            (_, float[] unquantized) = LogitsRun.Run(checkpoint, null, Batch.Of([new TrainingRow(prompt, prompt)]) with
            {
                LabelPositions = [prompt.Length - 1],
                LabelIds = [0],
            });
            using CausalLanguageModel lm = new(checkpoint, threads: 1, precision: precision);
            double error = GoldenFile.RelativeError(lm.Logits(prompt), exact);
            double loss = GoldenFile.RelativeError(unquantized, exact);
            Assert.True(error < 0.05 && error < loss / 3, $"{precision}: {error:F4} beside {loss:F4} of the quantization itself");
        }
    }

    /// <summary>The whole path: trained on 4 bits, answered from the same, saved with the precision, merged into the 32-bit weights.</summary>
    [Fact]
    public void Trained_on_four_bits_it_answers_from_four_bits_and_merges_into_the_original()
    {
        string model = TinyCheckpoint.Write(_folder.File("base"));
        MLContext ml = new(seed: 1);
        Row[] rows = [new() { Instruction = "hello", Output = "Good day." }];
        IDataView data = ml.Data.LoadFromEnumerable(rows);
        using QwenLoraTransformer trained = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = model,
            Precision = WeightPrecision.Nf4Double,
            TargetModules = "all-linear",
            Rank = 8,
            NumberOfEpochs = 3,
            Generation = new GenerationOptions { MaximumNewTokens = 8 },
        }).Fit(data);
        Assert.Single(Directory.GetFiles(_folder.File("cache")));
        string answer = Answer(ml, trained, data);
        string zip = _folder.File("model.zip");
        ml.Model.Save(trained, data.Schema, zip);
        using QwenLoraTransformer loaded = (QwenLoraTransformer)new MLContext().Model.Load(zip, out _);
        Assert.Equal(answer, Answer(ml, loaded, data));
        Checkpoint checkpoint = Checkpoint.Open(model);
        using TextGenerator generator = new(checkpoint, trained.Adapter, precision: WeightPrecision.Nf4Double);
        Assert.Equal(answer, generator.Generate([new InstructionRow("hello")], new GenerationOptions { MaximumNewTokens = 8 })[0].Text);

        trained.MergeAndSave(_folder.File("merged"));
        Checkpoint merged = Checkpoint.Open(_folder.File("merged"));
        Assert.False(merged.IsFourBit);
        string name = "model.layers.0.self_attn.q_proj.weight";
        Assert.InRange(GoldenFile.RelativeError(merged.Tensors[name].ReadFloat32(), checkpoint.Tensors[name].ReadFloat32()), 1e-6, 0.05);
    }

    [Theory]
    [InlineData(WeightPrecision.Nf4, null, WeightPrecision.Nf4)]
    [InlineData(WeightPrecision.Nf4, WeightPrecision.Checkpoint, WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Nf4, WeightPrecision.Int8, WeightPrecision.Int8)]
    [InlineData(WeightPrecision.Int8, null, WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Checkpoint, null, WeightPrecision.Checkpoint)]
    public void What_answers_is_what_was_trained_where_nothing_else_was_asked_for(WeightPrecision trained, WeightPrecision? asked, WeightPrecision expected)
    {
        MLContext ml = new(seed: 1);
        QwenLoraTrainer.Options options = new()
        {
            ModelPath = TinyCheckpoint.Write(_folder.File("base")),
            Precision = trained,
            Rank = 2,
            MaximumSteps = 1,
        };
        if (asked is { } precision)
        {
            options.WeightPrecision = precision;
        }

        Row[] rows = [new() { Instruction = "hello", Output = "Good day." }];
        using QwenLoraTransformer model = ml.TextGeneration.Trainers.QwenLora(options).Fit(ml.Data.LoadFromEnumerable(rows));
        Assert.Equal(expected, model.Model.Precision);
    }

    [Fact]
    public void A_checkpoint_that_is_in_four_bits_is_trained_and_answers_but_takes_no_merge()
    {
        Checkpoint checkpoint = Prequantized(WeightPrecision.Nf4);
        Assert.True(checkpoint.IsFourBit);
        Assert.Equal(Write().ParameterCount, checkpoint.ParameterCount);
        LoraOptions options = new() { Rank = 2 };
        (LoraAdapter adapter, TrainingSummary summary) = LoraTraining.Train(
            checkpoint, options, [TinyModel.Row(new Random(1), 12)],
            new TrainingOptions { NumberOfEpochs = 4, GradientAccumulationSteps = 1, LearningRate = 1e-2 });
        Assert.True(summary.Steps[^1].Loss < summary.Steps[0].Loss);
        foreach (WeightPrecision precision in (WeightPrecision[])[WeightPrecision.Checkpoint, WeightPrecision.Nf4, WeightPrecision.Int8, WeightPrecision.Int4])
        {
            using CausalLanguageModel lm = new(checkpoint, adapter, threads: 1, precision: precision);
            Assert.All(lm.Logits([1, 2, 3]), value => Assert.True(float.IsFinite(value)));
        }

        foreach (bool dora in (bool[])[false, true])
        {
            (_, summary) = LoraTraining.Train(
                checkpoint, options.With(o => o.UseDora = dora), [TinyModel.Row(new Random(1), 12)],
                new TrainingOptions { MaximumSteps = 1, Precision = WeightPrecision.Int8 });
            Assert.Single(summary.Steps);
        }

        OptionException error = Assert.Throws<OptionException>(() => Merge.Save(checkpoint, adapter, _folder.File("merged")));
        Assert.Contains("have 4 bits", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<OptionException>(() => new CausalLanguageModel(checkpoint, precision: WeightPrecision.Fp4));
        Assert.Contains("is in 4 bits already, as Nf4", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Copies_in_the_processor_s_order_are_refused()
    {
        Checkpoint checkpoint = Write();
        TrainingOptions options = new() { PrepackWeights = true, Precision = WeightPrecision.Nf4, MaximumSteps = 1 };
        OptionException error = Assert.Throws<OptionException>(() =>
            LoraTraining.Train(checkpoint, new LoraOptions { Rank = 2 }, [TinyModel.Row(new Random(1), 12)], options));
        Assert.Contains("PrepackWeights is true; with weights in 4 bits it must be false", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_cache_that_cannot_be_written_names_the_variable()
    {
        File.WriteAllText(_folder.File("file"), "");
        Environment.SetEnvironmentVariable(FourBitCache.Variable, Path.Combine(_folder.File("file"), "below"));
        CheckpointException error = Assert.Throws<CheckpointException>(() => FourBitCache.Open(Write(), WeightPrecision.Nf4));
        Assert.Contains("MLNETLORA_CACHE", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_cache_on_another_drive_is_refused_before_anything_is_quantized()
    {
        Checkpoint checkpoint = Write();
        try
        {
            FourBitCache.RootOf = path => path.StartsWith(_folder.File("cache"), StringComparison.Ordinal) ? "C:\\" : "D:\\";
            CheckpointException error = Assert.Throws<CheckpointException>(() => FourBitCache.Open(checkpoint, WeightPrecision.Nf4));
            Assert.Contains("Name a folder on D:\\ with the environment variable MLNETLORA_CACHE", error.Message, StringComparison.Ordinal);
            Assert.False(Directory.Exists(_folder.File("cache")));
            FourBitCache.RootOf = path => path.StartsWith(_folder.File("cache"), StringComparison.Ordinal) ? "d:\\" : "D:\\";
            Assert.True(FourBitCache.Open(checkpoint, WeightPrecision.Nf4).IsFourBit);
        }
        finally
        {
            FourBitCache.RootOf = null;
        }
    }

    [Fact]
    public void A_cancelled_quantization_leaves_nothing()
    {
        using CancellationTokenSource source = new();
        source.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => FourBitCache.Open(Write(), WeightPrecision.Nf4, cancellation: source.Token));
        Assert.Empty(Directory.GetFiles(_folder.File("cache")));
    }

    [Theory]
    [InlineData("\"blocksize\":64", "\"blocksize\":63", "blocks of 63")]
    [InlineData("\"blocksize\":64", "\"blocksize\":32", "absmax has")]
    [InlineData("\"float32\",\"shape\":[", "\"float32\",\"shape\":[1", "says that the weight has the shape")]
    [InlineData("\"float32\",\"shape\":[", "\"float32\",\"shape\":{", "is not the JSON that bitsandbytes writes")]
    [InlineData("{\"quant", "[\"quant", "is not the JSON that bitsandbytes writes")]
    [InlineData("\"nested_blocksize\":256", "\"nested_blocksize\":255", "nested blocks of 255")]
    [InlineData("\"nested_blocksize\":256", "\"nested_blocksize\":128", "nested_absmax has")]
    [InlineData(".nested_absmax\"", ".nested_absmaX\"", "no 'model.layers.0.self_attn.q_proj.weight.nested_absmax'")]
    public void A_state_that_does_not_fit(string what, string by, string message)
    {
        Checkpoint checkpoint = Prequantized(WeightPrecision.Nf4Double, large: true);
        string file = Path.Combine(checkpoint.Folder, "model.safetensors");
        byte[] bytes = File.ReadAllBytes(file);
        int at = 0;
        do
        {
            int next = bytes.AsSpan(at).IndexOf(Encoding.UTF8.GetBytes(what));
            if (next < 0)
            {
                break;
            }

            at += next;
            byte[] changed = Encoding.UTF8.GetBytes(by.Length > what.Length ? by : by.PadRight(what.Length));
            if (by.Length > what.Length)
            {
                bytes.AsSpan(at + what.Length, 120).ToArray().CopyTo(bytes, at + by.Length); // the state ends with spaces
            }

            changed.CopyTo(bytes, at);
            at += by.Length;
        }
        while (true);
        File.WriteAllBytes(file, bytes);
        CheckpointException error = Assert.Throws<CheckpointException>(() => Checkpoint.Open(checkpoint.Folder));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{\"quant_method\":\"gptq\"}", "gptq")]
    [InlineData("{\"quant_method\":\"bitsandbytes\",\"load_in_8bit\":true}", "bitsandbytes")]
    [InlineData("{}", "no method")]
    public void Other_quantizations_are_refused_by_name(string section, string name)
    {
        Checkpoint checkpoint = Prequantized(WeightPrecision.Nf4);
        string path = Path.Combine(checkpoint.Folder, "config.json");
        JsonNode config = JsonNode.Parse(File.ReadAllText(path))!;
        config["quantization_config"] = JsonNode.Parse(section);
        File.WriteAllText(path, config.ToJsonString());
        CheckpointException error = Assert.Throws<CheckpointException>(() => Checkpoint.Open(checkpoint.Folder));
        Assert.Contains($"(quantization_config, {name})", error.Message, StringComparison.Ordinal);
    }

    /// <summary>Files that hold more layers than config.json says are read without the others; a file that was made so must not count for all.</summary>
    [Fact]
    public void What_is_quantized_is_part_of_what_the_cache_is_found_by()
    {
        Write();
        Checkpoint one = FourBitCache.Open(Write(layers: 1), WeightPrecision.Nf4);
        RequireWhole(one);
        RequireWhole(FourBitCache.Open(Write(layers: 2), WeightPrecision.Nf4));

        // A file without some of the weights is written again.
        foreach (string file in Directory.GetFiles(_folder.File("cache")))
        {
            SafetensorsWriter.Write(file, [SafetensorsWriter.Item.From("other", TensorType.Float32, [1], new float[1])]);
        }

        RequireWhole(FourBitCache.Open(Write(layers: 2), WeightPrecision.Nf4));

        static void RequireWhole(Checkpoint checkpoint) =>
            Assert.All(checkpoint.Architecture.Linears(checkpoint.Config), module => Assert.NotNull(checkpoint.Tensors[module.Name + ".weight"].FourBit));
    }

    [Fact]
    public void A_weight_file_that_has_become_shorter_is_an_error_that_names_it()
    {
        Checkpoint checkpoint = Write();
        string file = Path.Combine(checkpoint.Folder, "model.safetensors");
        using (FileStream stream = File.OpenWrite(file))
        {
            stream.SetLength(stream.Length / 2);
        }

        CheckpointException error = Assert.Throws<CheckpointException>(() => FourBitCache.Open(checkpoint, WeightPrecision.Nf4));
        Assert.Contains($"{file} has become shorter", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(_folder.File("cache")));
    }

    /// <summary>Where a file that is mapped can be deleted at all, what has it mapped keeps it.</summary>
    [LinuxFact]
    public void A_cache_that_is_deleted_ends_neither_a_run_nor_an_engine()
    {
        Checkpoint checkpoint = Write();
        TrainingOptions options = new() { NumberOfEpochs = 4, GradientAccumulationSteps = 1, LearningRate = 1e-2, Precision = WeightPrecision.Nf4 };
        double[] expected = Losses(_ => { });
        Assert.Equal(expected, Losses(step => Delete(step.Step == 2)));
        Assert.Equal(expected, Losses(step =>
        {
            Delete(step.Step == 2);
            FourBitCache.Open(checkpoint, WeightPrecision.Nf4); // another process that starts writes it again
        }));

        using CausalLanguageModel engine = new(checkpoint, threads: 1, precision: WeightPrecision.Nf4);
        GenerationOptions three = new() { MaximumNewTokens = 3 };
        IReadOnlyList<int> answer = engine.Generate([[1, 2, 3]], three)[0].Ids;
        Delete(true);
        Assert.Equal(answer, engine.Generate([[1, 2, 3]], three)[0].Ids);

        double[] Losses(Action<TrainingProgress> progress) =>
        [
            .. LoraTraining.Train(checkpoint, new LoraOptions { Rank = 2 }, [TinyModel.Row(new Random(1), 12)], options, progress: progress)
                .Summary.Steps.Select(step => step.Loss),
        ];
    }

    [LinuxFact]
    public void A_cache_that_is_deleted_before_the_first_validation_is_named()
    {
        Checkpoint checkpoint = Write();
        TrainingOptions options = new() { NumberOfEpochs = 4, GradientAccumulationSteps = 1, EvaluationSteps = 2, Precision = WeightPrecision.Nf4 };
        TrainingRow row = TinyModel.Row(new Random(1), 12);
        TrainingException error = Assert.Throws<TrainingException>(() =>
            LoraTraining.Train(checkpoint, new LoraOptions { Rank = 2 }, [row], options, [row], progress: step => Delete(step.Step == 1)));
        Assert.Contains($"{_folder.File("cache")}", error.Message, StringComparison.Ordinal);
        Assert.Contains("Start again", error.Message, StringComparison.Ordinal);
        Assert.NotNull(error.LastGoodAdapter);
    }

    [Fact]
    public void A_cache_that_was_cut_short_is_not_read_on()
    {
        Checkpoint four = FourBitCache.Open(Write(), WeightPrecision.Nf4);
        using (FileStream stream = File.OpenWrite(Assert.Single(Directory.GetFiles(_folder.File("cache")))))
        {
            stream.SetLength(stream.Length - 100);
        }

        Assert.Throws<CheckpointException>(() => four.RequireUnchanged());
    }

    [Fact]
    public async Task Reading_ahead_reads_what_is_in_use_of_the_file_and_of_the_original()
    {
        Checkpoint checkpoint = Write();
        Checkpoint four = FourBitCache.Open(checkpoint, WeightPrecision.Nf4Double);
        long expected = four.Tensors.Values.Sum(tensor => tensor.Entry.Length
            + (tensor.FourBit is { } storage ? storage.AbsMax.Entry.Length + storage.Nested!.AbsMax.Entry.Length : 0));
        Assert.Equal(expected, await ReadAhead.Start(four, default));
        Assert.True(expected < checkpoint.Files.Sum(file => new FileInfo(file.Source).Length) / 2);
    }

    /// <summary>The output layer in 4 bits, too, as with bitsandbytes where it is told to skip nothing.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void With_an_output_layer_in_four_bits_gradients_are_those_of_the_same_weights_in_32_bits(int chunks)
    {
        Checkpoint four = FourBitFolder.Write(Write(tied: false), WeightPrecision.Nf4, _folder.File("prequantized"), alsoHead: true);
        Assert.NotNull(four.Tensors["lm_head.weight"].FourBit);
        Directory.CreateDirectory(_folder.File("unpacked"));
        File.Copy(_folder.File("model/config.json"), _folder.File("unpacked/config.json"));
        SafetensorsWriter.Write(_folder.File("unpacked/model.safetensors"), [.. four.Tensors.Select(tensor =>
            SafetensorsWriter.Item.From(tensor.Key, TensorType.Float32, tensor.Value.Entry.Shape, tensor.Value.ReadFloat32()))]);
        ChunkPlan plan = new(chunks, 1, false, Vocabulary: 3);
        (float loss, float[] expected) = Gradients(Checkpoint.Open(_folder.File("unpacked")));
        (float found, float[] gradients) = Gradients(four);
        Assert.Equal(loss, found, 1e-5);
        Assert.InRange(GoldenFile.RelativeError(gradients, expected), 0, 1e-4);

        (float, float[]) Gradients(Checkpoint checkpoint)
        {
            LoraOptions lora = new() { Rank = 4, Dropout = 0, TargetModules = "all-linear" };
            using TrainingSession session = new(TrainingTarget.Lora(checkpoint, lora), new TrainingOptions { Threads = 1 }, plan);
            LoraParameters.Load(session.Parameters, LoraAdapter.Create(lora, Checkpoint.Open(_folder.File("unpacked")), 1));
            Batch batch = Batch.Of([TinyModel.Row(new Random(2), 21), TinyModel.Row(new Random(3), 9)]);
            float sum = session.Accumulate(batch, batch.LabelIds.Length);
            return (sum, session.Parameters.Gradients.Span(0, (int)session.Parameters.Gradients.Length).ToArray());
        }
    }

    private void Delete(bool now)
    {
        if (now)
        {
            File.Delete(Assert.Single(Directory.GetFiles(_folder.File("cache"))));
        }
    }

    private static string Answer(MLContext ml, QwenLoraTransformer model, IDataView data) =>
        ml.Data.CreateEnumerable<Reply>(model.Transform(data), reuseRowObject: false).Single().Answer;

    /// <summary>A model with layers whose rows are whole blocks, and others whose are not.</summary>
    private Checkpoint Write(bool large = false, bool tied = true, int layers = 2)
    {
        string folder = _folder.File(large ? "large" : "model");
        TinyModel.WriteConfig(folder, "qwen3", tied, layers: layers);
        JsonNode config = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "config.json")))!;
        config["hidden_size"] = 64;
        config["head_dim"] = 16;
        config["intermediate_size"] = large ? 512 : 80;
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString());
        return File.Exists(Path.Combine(folder, "model.safetensors")) ? Checkpoint.Open(folder) : TinyModel.WriteWeights(folder);
    }

    private Checkpoint Prequantized(WeightPrecision precision, bool large = false) =>
        FourBitFolder.Write(Write(large), precision, _folder.File("prequantized"));

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
