using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>That what <see cref="QwenLoraTrainer.Options"/> says reaches the real engine through Fit, and that what the engine says comes out of it.</summary>
public sealed class FitOptionsTests
{
    private static readonly Row[] s_rows =
    [
        new("What is the code word?", "", "The code word is heron."), new("公司在哪里？", "", "我们在昆明。"), new("Say yes.", "", "Yes."), new("Say no.", "", "No."),
    ];

    private readonly MLContext _ml = new(seed: 1);

    [Fact]
    public void Packing_makes_fewer_steps_of_the_same_tokens()
    {
        TrainingSummary plain = Train(_ => { });
        TrainingSummary packed = Train(options => options.PackingLength = 256);

        Assert.Equal(s_rows.Length, plain.Steps.Count);
        Assert.Single(packed.Steps);
        Assert.Equal(plain.Steps.Sum(step => step.Tokens), packed.Steps[0].Tokens);
        Assert.Equal(plain.Steps.Sum(step => step.LabelTokens), packed.Steps[0].LabelTokens);
    }

    [Fact]
    public void The_loss_of_the_validation_set_is_reported_and_logged()
    {
        List<string> log = [];
        _ml.Log += (_, message) => log.Add(message.RawMessage);
        TrainingSummary summary = Train(options =>
        {
            options.ValidationSet = _ml.Data.LoadFromEnumerable<Row>([new("Say yes.", "", "Yes, of course.")]);
            options.EvaluationSteps = 3;
        });

        Assert.Equal([3, 4], summary.Steps.Where(step => step.ValidationLoss is not null).Select(step => step.Step));
        Assert.All(summary.Steps, step => Assert.True(step.ValidationLoss is null or > 0 and < 20));
        Assert.Contains(log, line => line.StartsWith("Step 3/4, validation loss ", StringComparison.Ordinal));
        Assert.Contains(log, line => line.Contains("4 training rows, 1 for validation.", StringComparison.Ordinal));
    }

    [Fact]
    public void Everything_has_more_labels_than_the_answers()
    {
        TrainingSummary answers = Train(options => options.Shuffle = false);
        TrainingSummary everything = Train(options => (options.Shuffle, options.LabelScope) = (false, LabelScope.Everything));

        Assert.Equal(answers.Steps.Select(step => step.Tokens), everything.Steps.Select(step => step.Tokens));
        Assert.All(answers.Steps.Zip(everything.Steps), pair => Assert.True(pair.Second.LabelTokens > pair.First.LabelTokens + 5));
    }

    [Fact]
    public void A_run_that_diverges_leaves_its_last_good_adapter()
    {
        List<TrainingProgress> steps = [];
        TrainingDivergedException diverged = Assert.Throws<TrainingDivergedException>(() => Train(options =>
        {
            options.TargetModules = "all-linear";
            options.LearningRate = 1e18;
            options.MaximumGradientNorm = 0;
            options.NumberOfEpochs = 10;
            options.ProgressCallback = steps.Add;
        }));

        Assert.Equal(steps.Count + 1, diverged.Step);
        Assert.Contains("Lower LearningRate", diverged.Message);
        LoraAdapter adapter = Assert.IsType<LoraAdapter>(diverged.LastGoodAdapter);
        Assert.Equal(Repository.Nano, adapter.BaseModel);
        Assert.All(adapter.Factors, factor => Assert.All(factor.A.Concat(factor.B), value => Assert.True(float.IsFinite(value))));
        using TemporaryFolder folder = new();
        adapter.SaveAsPeft(folder.Path);
        Assert.Equal(adapter.ToSafetensors(), LoraAdapter.LoadPeft(folder.Path, Checkpoint.Open(Repository.Nano)).ToSafetensors());
    }

    [Fact]
    public void A_cancelled_run_leaves_a_transformer_that_answers_and_is_saved()
    {
        using TemporaryFolder folder = new();
        using CancellationTokenSource source = new();
        using QwenLoraTransformer model = Fit(options =>
        {
            options.NumberOfEpochs = 1000;
            options.CancellationToken = source.Token;
            options.ProgressCallback = progress =>
            {
                if (progress.Step == 2)
                {
                    source.Cancel();
                }
            };
        });

        Assert.True(model.TrainingSummary!.WasCancelled);
        Assert.Equal(2, model.TrainingSummary.Steps.Count);
        Assert.Contains(model.Adapter.Factors, factor => factor.B.Any(value => value != 0));
        string answer = model.Generate("Say yes.");
        Assert.Equal([answer],
            _ml.Data.CreateEnumerable<Reply>(model.Transform(_ml.Data.LoadFromEnumerable([s_rows[2]])), reuseRowObject: false).Select(reply => reply.Answer));
        _ml.Model.Save(model, model.InputSchema, folder.File("model.zip"));
        using QwenLoraTransformer loaded = (QwenLoraTransformer)new MLContext().Model.Load(folder.File("model.zip"), out _);
        Assert.Equal(answer, loaded.Generate("Say yes."));
    }

    private TrainingSummary Train(Action<QwenLoraTrainer.Options> change)
    {
        using QwenLoraTransformer model = Fit(change);
        return model.TrainingSummary!;
    }

    private QwenLoraTransformer Fit(Action<QwenLoraTrainer.Options> change)
    {
        QwenLoraTrainer.Options options = new()
        {
            ModelPath = Repository.Nano,
            Rank = 4,
            Dropout = 0,
            GradientAccumulationSteps = 1,
            NumberOfEpochs = 1,
            Generation = new GenerationOptions { MaximumNewTokens = 8 },
        };
        change(options);
        return _ml.TextGeneration.Trainers.QwenLora(options).Fit(_ml.Data.LoadFromEnumerable(s_rows));
    }
}
