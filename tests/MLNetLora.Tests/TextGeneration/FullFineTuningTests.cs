using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Tests.Models;
using MLNetLora.Tests.Quantization;
using MLNetLora.TextGeneration;

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
        Refused("save the adapter with SaveAsPeft", options => options.OutputFolder = _folder.Path);
        Refused("no weight is frozen", options => (Full(options, _folder.Path).Precision, options.Threads) = (WeightPrecision.Nf4, 1));
        Refused("no weight is frozen", options => Full(options, _folder.Path).PrepackWeights = true);
        Refused("LoraPlusRatio", options => Full(options, _folder.Path).LoraPlusRatio = 16);
        Refused("InitialAdapter", options => Full(options, _folder.Path).InitialAdapter = "adapter");
        Directory.CreateDirectory(_folder.File("used"));
        File.WriteAllText(_folder.File("used/model.safetensors"), "");
        Refused("give an empty folder", options => Full(options, _folder.File("used")));
        Refused("give an empty folder", options => Full(options, _bench.BaseFolder));

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

    private static QwenLoraTrainer.Options Full(QwenLoraTrainer.Options options, string output)
    {
        (options.Method, options.OutputFolder, options.LearningRate, options.NumberOfEpochs) = (FineTuningMethod.Full, output, 1e-2, 5);
        return options;
    }
}
