using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
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
        Refused("Rank is set, and Method is Full", options => Full(options, _folder.Path).Rank = 8);
        Refused("UseDora is set, and Method is Full", options => Full(options, _folder.Path).UseDora = true);
        Refused("TargetModules is set, and Method is Full", options => Full(options, _folder.Path).TargetModules = "all-linear");
        Refused("InitialAdapter", options => Full(options, _folder.Path).InitialAdapter = "adapter");
        Directory.CreateDirectory(_folder.File("used"));
        File.WriteAllText(_folder.File("used/model.safetensors"), "");
        Refused("give an empty folder", options => Full(options, _folder.File("used")));
        Refused("give an empty folder", options => Full(options, _bench.BaseFolder));

        void Refused(string why, Action<QwenLoraTrainer.Options> change) =>
            Assert.Contains(why, Assert.Throws<OptionException>(() => _bench.Fit(change)).Message, StringComparison.Ordinal);
    }

    private static QwenLoraTrainer.Options Full(QwenLoraTrainer.Options options, string output)
    {
        (options.Method, options.OutputFolder, options.LearningRate, options.NumberOfEpochs) = (FineTuningMethod.Full, output, 1e-2, 5);
        return options;
    }
}
