using System.Globalization;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Evaluation;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary><c>ml.TextGeneration.CrossValidate</c>: a model for each fold, scored on rows that it was not trained on.</summary>
public sealed class CrossValidateTests : IDisposable
{
    private readonly Workbench _bench = new();
    private readonly IDataView _rows;

    public CrossValidateTests() => _rows = _bench.Context.Data.LoadFromEnumerable(
        Enumerable.Range(0, 12).Select(i => new Row($"what {i}", $"document {i / 3}", $"{i}")));

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Every_row_is_scored_once_by_a_model_that_has_not_seen_it()
    {
        Fitted trainer = new(_bench.Trainer(options => options.MaximumSteps = 1));
        IReadOnlyList<TrainCatalogBase.CrossValidationResult<TextGenerationMetrics>> results =
            _bench.Context.TextGeneration.CrossValidate(_rows, trainer, numberOfFolds: 3, seed: 2);
        Assert.Equal([0, 1, 2], results.Select(result => result.Fold));
        Assert.Equal(12, results.Sum(result => result.Metrics.Rows));
        Assert.Equal(12, results.SelectMany(result => Outputs(result.ScoredHoldOutSet)).Distinct().Count());
        foreach (TrainCatalogBase.CrossValidationResult<TextGenerationMetrics> result in results)
        {
            QwenLoraTransformer model = Assert.IsType<QwenLoraTransformer>(result.Model);
            Assert.False(model.IsOpen); // one engine at a time
            Assert.Empty(Outputs(result.ScoredHoldOutSet).Intersect(trainer.Seen[result.Fold]));
            Assert.Equal(result.Metrics.MeanAnswerLength, Answers(result.ScoredHoldOutSet).Average(answer => answer.EnumerateRunes().Count()), 1e-9);
            Assert.True(model.IsOpen); // it opens again
            model.Dispose();
        }
    }

    [Fact]
    public void Folds_keep_rows_together_and_depend_on_the_seed()
    {
        Fitted trainer = new(_bench.Trainer(options => options.MaximumSteps = 1));
        Run(seed: 1, samplingKey: "Input");
        Assert.All(
            trainer.Seen.SelectMany(seen => seen.GroupBy(output => int.Parse(output, CultureInfo.InvariantCulture) / 3)),
            group => Assert.Equal(3, group.Count()));
        Run(seed: 1);
        Run(seed: 5);
        Assert.NotEqual(trainer.Seen[2].Order(), trainer.Seen[4].Order());

        void Run(int seed, string? samplingKey = null)
        {
            foreach (var result in _bench.Context.TextGeneration.CrossValidate(_rows, trainer, 2, samplingKeyColumnName: samplingKey, seed: seed))
            {
                ((IDisposable)result.Model).Dispose();
            }
        }
    }

    [Fact]
    public void A_pipeline_is_cross_validated_too_and_columns_have_other_names()
    {
        IEstimator<ITransformer> pipeline = _bench.Context.Transforms.CopyColumns("Wanted", "Output").Append(_bench.Trainer(options =>
        {
            options.MaximumSteps = 1;
            options.AnswerColumnName = "Said";
        }));
        IDataView data = _bench.Context.Transforms.CopyColumns("Label", "Output").Fit(_rows).Transform(_rows);
        var results = _bench.Context.TextGeneration.CrossValidate(data, pipeline, 2, labelColumnName: "Label", predictedColumnName: "Said");
        Assert.Equal(12, results.Sum(result => result.Metrics.Rows));
        foreach (var result in results)
        {
            TransformerChain<QwenLoraTransformer> chain = Assert.IsType<TransformerChain<QwenLoraTransformer>>(result.Model);
            Assert.False(chain.LastTransformer.IsOpen);
            chain.Dispose();
        }
    }

    [Fact]
    public void When_a_fold_fails_the_models_before_it_are_disposed()
    {
        Fitted trainer = new(_bench.Trainer(options => options.MaximumSteps = 1)) { FailsAt = 2 };
        Assert.Throws<InvalidOperationException>(() => _bench.Context.TextGeneration.CrossValidate(_rows, trainer, 3));
        Assert.Equal(2, trainer.Models.Count);
        Assert.All(trainer.Models, model => Assert.Throws<ObjectDisposedException>(() => model.Generate("what")));
    }

    [Fact]
    public void A_fold_whose_training_is_cancelled_is_not_scored()
    {
        using CancellationTokenSource cancel = new();
        int trainings = 0;
        Fitted trainer = new(_bench.Trainer(options =>
        {
            options.GradientAccumulationSteps = 1;
            options.CancellationToken = cancel.Token;
            options.ProgressCallback = step =>
            {
                if (step.Step == 1 && ++trainings == 2)
                {
                    cancel.Cancel();
                }
            };
        }));
        string message = Assert.Throws<OperationCanceledException>(() => _bench.Context.TextGeneration.CrossValidate(_rows, trainer, 2)).Message;
        Assert.Equal("The training of fold 1 was cancelled.", message);
        Assert.All(trainer.Models, model => Assert.Throws<ObjectDisposedException>(() => model.Generate("what")));
    }

    [Fact]
    public void A_fold_without_rows_is_told_before_anything_is_trained()
    {
        Fitted trainer = new(_bench.Trainer()) { FailsAt = 0 };
        IDataView two = _bench.Context.Data.LoadFromEnumerable<Row>([new("what", "", "1"), new("why", "", "2")]);
        string message = Assert.Throws<DatasetException>(() => _bench.Context.TextGeneration.CrossValidate(two, trainer, 5)).Message;
        Assert.Matches("^Fold [0-4] of 5 has no row", message);
    }

    [Fact]
    public void What_cannot_be_scored_is_refused_before_anything_is_trained()
    {
        Fitted trainer = new(_bench.Trainer()) { FailsAt = 0 };
        TextGenerationCatalog catalog = _bench.Context.TextGeneration;
        void Refused(string message, Action run) =>
            Assert.Contains(message, Assert.Throws<ArgumentOutOfRangeException>(run).Message, StringComparison.Ordinal);

        Refused("numberOfFolds", () => catalog.CrossValidate(_rows, trainer, numberOfFolds: 1));
        Refused("labelColumnName", () => catalog.CrossValidate(_rows, trainer, labelColumnName: "Wanted"));
        Refused("predictedColumnName", () => catalog.CrossValidate(_rows, trainer, predictedColumnName: "Said"));
        Refused("conversationColumnName", () => catalog.CrossValidate(_rows, trainer, conversationColumnName: "Talk"));
        Refused("errorColumnName", () => catalog.CrossValidate(_rows, trainer, errorColumnName: "Error"));
        Assert.Throws<OptionException>(() => catalog.CrossValidate(_rows, trainer, rougeTokenizer: (RougeTokenizer)9));
        QwenLoraTrainer writes = _bench.Trainer(options => options.OutputFolder = _bench.PathOf("run"));
        var copied = _bench.Context.Transforms.CopyColumns("Wanted", "Output");
        foreach (IEstimator<ITransformer> ofOneRun in (IEstimator<ITransformer>[])[
            writes,
            _bench.Trainer(options => options.ResumeFrom = _bench.PathOf("run")),
            copied.Append(writes),
            writes.Append(copied),
            copied.Append(writes.Append(_bench.Context.Transforms.CopyColumns("Said", "Answer"))),
            new Fitted(writes) { FailsAt = 0 }])
        {
            string refused = Assert.Throws<OptionException>(() => catalog.CrossValidate(_rows, ofOneRun)).Message;
            Assert.Contains($"is {_bench.PathOf("run")}, which is one run's", refused, StringComparison.Ordinal);
        }

        Assert.False(Directory.Exists(_bench.PathOf("run")));
        writes.GetOutputSchema(MLNetInternals.Shape(_rows.Schema)); // where nobody cross-validates, a pipeline may have it
    }

    private static IEnumerable<string> Outputs(IDataView view) => view.GetColumn<string>("Output");

    private static IEnumerable<string> Answers(IDataView view) => view.GetColumn<string>("Answer");

    /// <summary>A trainer that remembers what it was given.</summary>
    private sealed class Fitted(QwenLoraTrainer trainer) : IEstimator<QwenLoraTransformer>
    {
        public List<string[]> Seen { get; } = [];

        public List<QwenLoraTransformer> Models { get; } = [];

        public int FailsAt { get; init; } = int.MaxValue;

        public QwenLoraTransformer Fit(IDataView input)
        {
            if (Models.Count == FailsAt)
            {
                throw new InvalidOperationException("fails");
            }

            Seen.Add([.. Outputs(input)]);
            Models.Add(trainer.Fit(input));
            return Models[^1];
        }

        public SchemaShape GetOutputSchema(SchemaShape inputSchema) => trainer.GetOutputSchema(inputSchema);
    }
}
