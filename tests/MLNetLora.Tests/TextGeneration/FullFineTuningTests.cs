using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Tests.Models;
using MLNetLora.Tests.Quantization;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Every weight trained through the trainer: a checkpoint of its own comes out, and the transformer answers from it.</summary>
public sealed class FullFineTuningTests : IDisposable
{
    private readonly Workbench _bench = new();
    private readonly TemporaryFolder _folder = new();

    public void Dispose()
    {
        _bench.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void A_checkpoint_comes_out_and_answers()
    {
        byte[] before = File.ReadAllBytes(Path.Combine(_bench.BaseFolder, "model.safetensors"));
        string output = _folder.File("trained");
        string answer;
        using (QwenLoraTransformer model = _bench.Fit(options => Full(options, output)))
        {
            double[] losses = [.. model.TrainingSummary!.Steps.Select(step => step.Loss)];
            Assert.True(losses[^3..].Average() < 0.9 * losses[..3].Average(), string.Join(" ", losses));
            answer = model.Generate("what");
            Assert.Equal(0, model.Adapter.ParameterCount);
            string refused = Assert.Throws<OptionException>(() => model.Adapter.SaveAsPeft(_folder.File("peft"))).Message;
            Assert.Contains("no adapter to save", refused, StringComparison.Ordinal);
            model.Save(_folder.File("model.zip"));
            model.MergeAndSave(_folder.File("copied"));
        }

        Assert.Equal(before, File.ReadAllBytes(Path.Combine(_bench.BaseFolder, "model.safetensors")));
        Checkpoint trained = Checkpoint.Open(output);
        Checkpoint initial = Checkpoint.Open(_bench.BaseFolder);
        Assert.Equal(initial.Tensors.Keys.Order(), trained.Tensors.Keys.Order());
        Assert.All(trained.Tensors, item =>
        {
            Assert.Equal(initial.Tensors[item.Key].Entry.Type, item.Value.Entry.Type);
            Assert.NotEqual(initial.Tensors[item.Key].ReadFloat32(), item.Value.ReadFloat32());
        });
        using QwenLoraTransformer loaded = _bench.Context.TextGeneration.Load(_folder.File("model.zip"));
        Assert.Equal(answer, loaded.Generate("what"));
        Assert.Equal(File.ReadAllBytes(Path.Combine(output, "model.safetensors")), File.ReadAllBytes(_folder.File("copied/model.safetensors")));
    }

    [Fact]
    public void A_cancelled_run_leaves_the_last_whole_step()
    {
        using CancellationTokenSource cancel = new();
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            Full(options, _folder.File("trained"));
            options.CancellationToken = cancel.Token;
            options.ProgressCallback = step =>
            {
                if (step.Step == 2)
                {
                    cancel.Cancel();
                }
            };
        });
        Assert.True(model.TrainingSummary!.WasCancelled);
        Assert.NotEmpty(model.Generate("what") + "."); // answers, whatever it is
        Assert.True(File.Exists(_folder.File("trained/config.json")));
    }

    [Fact]
    public void What_makes_no_sense_is_refused()
    {
        Refused("OutputFolder is null", options => options.Method = FineTuningMethod.Full);
        Refused("no weight is frozen", options => (Full(options, _folder.Path).Precision, options.Threads) = (WeightPrecision.Nf4, 1));
        Refused("no weight is frozen", options => Full(options, _folder.Path).PrepackWeights = true);
        Refused("Rank is set, and Method is Full", options => Full(options, _folder.Path).Rank = 8);
        Refused("UseDora is set, and Method is Full", options => Full(options, _folder.Path).UseDora = true);
        Refused("TargetModules is set, and Method is Full", options => Full(options, _folder.Path).TargetModules = "all-linear");
        Refused("LoraPlusRatio", options => Full(options, _folder.Path).LoraPlusRatio = 16);
        Refused("InitialAdapter", options => Full(options, _folder.Path).InitialAdapter = "adapter");
        Directory.CreateDirectory(_folder.File("used"));
        File.WriteAllText(_folder.File("used/model.safetensors"), "");
        Refused("give an empty folder", options => Full(options, _folder.File("used")));
        Refused("give an empty folder", options => Full(options, _bench.BaseFolder));
        File.WriteAllText(_folder.File("file"), "");
        Refused("which cannot be written to", options => Full(options, _folder.File("file")));
        Refused("which cannot be written to", options => Full(options, _folder.File("file/below")));
        Refused("which cannot be written to", options => Full(options, "a\0b"));

        void Refused(string why, Action<QwenLoraTrainer.Options> change) =>
            Assert.Contains(why, Assert.Throws<OptionException>(() => _bench.Fit(change)).Message, StringComparison.Ordinal);
    }

    /// <summary>What is wrong with the base is known before minutes are spent on the rows.</summary>
    [Fact]
    public void Bases_that_cannot_be_trained_whole_are_refused_before_a_row_is_read()
    {
        Checkpoint plain = Checkpoint.Open(_bench.BaseFolder);
        FourBitFolder.Write(plain, WeightPrecision.Nf4, _folder.File("four"));
        MixtureModel.Write(_folder.File("mixture"), "qwen3_moe", ("vocab_size", 5632), ("output_router_logits", true), ("router_aux_loss_coef", 0.01));
        foreach (string name in (string[])["tokenizer.json", "tokenizer_config.json"])
        {
            File.Copy(Path.Combine(Repository.Nano, name), _folder.File($"four/{name}"));
            File.Copy(Path.Combine(Repository.Nano, name), _folder.File($"mixture/{name}"));
        }

        string four = Refused<OptionException>(options => Full(options, _folder.File("trained")).ModelPath = _folder.File("four"));
        Assert.Contains($"{_folder.File("four")} is in 4 bits", four, StringComparison.Ordinal);
        Assert.Contains("16- or 32-bit checkpoint that it was quantized from", four, StringComparison.Ordinal);
        string mixture = Refused<OptionException>(options => Full(options, _folder.File("trained")).ModelPath = _folder.File("mixture"));
        Assert.Contains("mixture of experts", mixture, StringComparison.Ordinal);
        string logits = Refused<CheckpointException>(options => options.ModelPath = _folder.File("mixture"));
        Assert.Contains("output_router_logits", logits, StringComparison.Ordinal);
        string target = Refused<AdapterException>(options => options.TargetModules = ["no_such_layer"]);
        Assert.Contains("no_such_layer", target, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder.File("trained")));

        string Refused<T>(Action<QwenLoraTrainer.Options> change)
            where T : Exception => Assert.Throws<T>(() => _bench.Trainer(change).Fit(_bench.Context.Data.LoadFromEnumerable(Unread()))).Message;

        static IEnumerable<Row> Unread() => Enumerable.Range(0, 1).Select<int, Row>(_ => throw new InvalidOperationException("a row was read"));
    }

    /// <summary>Qwen3.5 as published: the vision tower and the layers for several tokens at once stay as they are, and every tensor has the type that it
    /// had.</summary>
    [Fact]
    public void What_text_never_touches_is_in_the_trained_checkpoint_as_it_was()
    {
        Checkpoint initial = WritePublished(_folder.File("base"));
        List<string> log = [];
        MLContext ml = new(seed: 1);
        ml.Log += (_, e) => log.Add(e.RawMessage);
        string output = _folder.File("trained");
        using QwenLoraTransformer model = ml.TextGeneration.Trainers.QwenLora(new QwenLoraTrainer.Options
        {
            ModelPath = initial.Folder,
            Method = FineTuningMethod.Full,
            OutputFolder = output,
            MaximumSteps = 1,
            Threads = 1,
        }).Fit(_bench.Rows);
        Assert.Contains(FormattableString.Invariant($"All {initial.ParameterCount - 12:N0} parameters are trained."), log);

        SafetensorsFile before = SafetensorsFile.Open(Path.Combine(initial.Folder, "model.safetensors"));
        SafetensorsFile after = SafetensorsFile.Open(Path.Combine(output, "model.safetensors"));
        Assert.Equal(before.Tensors.Keys.Where(name => name != "lm_head.weight").Order(), after.Tensors.Keys.Order());
        Assert.All(after.Tensors.Values, tensor =>
        {
            Assert.Equal(before.Tensors[tensor.Name].TypeName, tensor.TypeName);
            Assert.Equal(before.Tensors[tensor.Name].Shape, tensor.Shape);
            bool isTrained = initial.Tensors.ContainsKey(tensor.Name);
            Assert.Equal(!isTrained, Bytes(before, tensor.Name).SequenceEqual(Bytes(after, tensor.Name)));
        });
        Assert.Equal(initial.ParameterCount, Checkpoint.Open(output).ParameterCount);

        static byte[] Bytes(SafetensorsFile file, string name) =>
            File.ReadAllBytes(file.Source).AsSpan((int)file.Tensors[name].Offset, (int)file.Tensors[name].Length).ToArray();
    }

    [Fact]
    public void A_tower_that_is_gone_at_the_end_loses_no_trained_weights()
    {
        Checkpoint initial = WritePublished(_folder.File("base"));
        TrainingException error = Assert.Throws<TrainingException>(() => _bench.Fit(options =>
        {
            Full(options, _folder.File("trained")).ModelPath = initial.Folder;
            options.MaximumSteps = 1;
            options.ProgressCallback = _ => File.Delete(Path.Combine(initial.Folder, "model.safetensors"));
        }));
        string kept = _folder.File("trained/model.safetensors");
        Assert.Contains($"are in {kept}", error.Message, StringComparison.Ordinal);
        Assert.Contains("without 'model.visual.", error.Message, StringComparison.Ordinal);
        Assert.Equal(initial.Tensors.Keys.Order(), SafetensorsFile.Open(kept).Tensors.Keys.Order());
    }

    /// <summary>What fails after the last step says where the weights are, and offers no adapter.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Whatever_fails_after_the_last_step_says_where_the_weights_are(bool isLog)
    {
        string output = _folder.File("trained");
        _bench.Context.Log += (_, e) =>
            _ = isLog && e.RawMessage.StartsWith("Done in", StringComparison.Ordinal) ? throw new IOException("the log is closed") : 0;
        TrainingException error = Assert.Throws<TrainingException>(() => _bench.Fit(options => Full(options, output).ProgressCallback = _ =>
        {
            if (!isLog)
            {
                Directory.CreateDirectory(Path.Combine(output, "config.json"));
            }
        }));
        Assert.Contains(isLog ? "the log is closed" : "config.json is a folder", error.Message, StringComparison.Ordinal);
        Assert.Contains($"The weights are in {Path.Combine(output, "model.safetensors")}", error.Message, StringComparison.Ordinal);
        Assert.Equal(error.Step, error.LastGoodStep);
        Assert.Null(error.LastGoodAdapter);
        Assert.True(File.Exists(Path.Combine(output, "model.safetensors")));
    }

    /// <summary>Qwen3.5 with a vision tower, layers for several tokens at once, a copy of the tied output layer, and tensors of several types.</summary>
    private static Checkpoint WritePublished(string folder)
    {
        TinyModel.WriteConfig(folder, "qwen3_5", tied: true, positions: 256);
        string config = Path.Combine(folder, "config.json");
        File.WriteAllText(config, File.ReadAllText(config).Replace("\"vocab_size\":24", "\"vocab_size\":5632", StringComparison.Ordinal));
        foreach (string name in (string[])["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
        {
            File.Copy(Path.Combine(Repository.Nano, name), Path.Combine(folder, name));
        }

        Checkpoint plain = TinyModel.WriteWeights(folder);
        float[] twelve = [.. Enumerable.Range(0, 12).Select(i => (float)i)];
        string weights = Path.Combine(folder, "model.safetensors");
        SafetensorsWriter.Write(weights,
        [
            .. plain.Tensors.Values.Select(tensor => SafetensorsWriter.Item.From(
                tensor.Entry.Name, tensor.Entry.Shape.Count == 1 ? TensorType.Float32 : TensorType.BFloat16, tensor.Entry.Shape, tensor.ReadFloat32())),
            SafetensorsWriter.Item.From("model.visual.blocks.0.attn.qkv.weight", TensorType.Float16, [3, 4], twelve),
            SafetensorsWriter.Item.From("mtp.layers.0.self_attn.q_proj.weight", TensorType.Float32, [4, 3], twelve),
            SafetensorsWriter.Item.From("lm_head.weight", TensorType.BFloat16, [1, 12], twelve),
        ]);

        // A type that is copied and not read.
        byte[] bytes = File.ReadAllBytes(weights);
        "I32"u8.CopyTo(bytes.AsSpan(bytes.AsSpan().IndexOf("F32\",\"shape\":[4,3]"u8)));
        File.WriteAllBytes(weights, bytes);
        return Checkpoint.Open(folder);
    }

    private static QwenLoraTrainer.Options Full(QwenLoraTrainer.Options options, string output)
    {
        (options.Method, options.OutputFolder, options.LearningRate, options.NumberOfEpochs) = (FineTuningMethod.Full, output, 1e-2, 5);
        return options;
    }
}
