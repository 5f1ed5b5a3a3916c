using Microsoft.ML;
using MLNetLora.Adapters;
using MLNetLora.Evaluation;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary><c>QwenLoraTransformer.EvaluateLoss</c> says of a finished model what training said of its validation rows.</summary>
public sealed class EvaluateLossTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void It_is_what_training_said_of_the_validation_rows()
    {
        using QwenLoraTransformer model = _bench.Fit(Validated);
        Check(model, Last(model));

        // From a zip, and with an engine that answers meanwhile.
        using QwenLoraTransformer loaded = _bench.Context.TextGeneration.Load(_bench.Save(model));
        Assert.NotEmpty(loaded.Generate("what"));
        Check(loaded, Last(model));
    }

    [Fact]
    public void So_it_is_with_everything_that_an_adapter_can_hold()
    {
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            Validated(options);
            options.Rank = 2;
            options.Initialization = LoraInitialization.Pissa;
            options.UseDora = true;
            options.TargetModules = TargetModules.AllLinear;
            options.RankPattern = new Dictionary<string, int> { ["down_proj"] = 4 };
            options.Bias = LoraBias.LoraOnly;
            options.ModulesToSave = ["norm"];
            options.TrainableTokenIndices = [5, 77];
        });
        Check(model, Last(model));
    }

    [Theory]
    [InlineData(null)]
    [InlineData(true)]
    public void And_with_a_template_that_reads_whether_to_think(bool? enableThinking)
    {
        File.WriteAllText(Path.Combine(_bench.BaseFolder, "chat_template.jinja"),
            "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}"
            + "{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}"
            + "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}");
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            Validated(options);
            options.EnableThinking = enableThinking;
        });
        Check(model, Last(model));
    }

    [Fact]
    public void And_where_every_weight_was_trained()
    {
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            Validated(options);
            options.Method = FineTuningMethod.Full;
            options.OutputFolder = _bench.PathOf("trained");
            options.LearningRate = 1e-3;
        });
        Check(model, Last(model));
    }

    [Fact]
    public void Weights_in_4_bits_are_those_that_were_trained_with()
    {
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            Validated(options);
            options.Precision = WeightPrecision.Nf4;
            options.WeightPrecision = WeightPrecision.Nf4;
        });
        Check(model, Last(model));
        using QwenLoraTransformer exact = model.With(options => options.WeightPrecision = WeightPrecision.Checkpoint);
        double loss = exact.EvaluateLoss(_bench.Rows).Loss;
        Assert.True(Math.Abs(loss - Last(model).ValidationLoss!.Value) > 1e-4, $"{loss}");

        // Those of answers alone are the checkpoint's.
        foreach (WeightPrecision precision in (WeightPrecision[])[WeightPrecision.Int8, WeightPrecision.Int4])
        {
            using QwenLoraTransformer rounded = model.With(options => options.WeightPrecision = precision);
            Assert.Equal(loss, rounded.EvaluateLoss(_bench.Rows).Loss);
        }
    }

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(100)]
    public void However_many_rows_are_in_a_batch(int batchSize)
    {
        using QwenLoraTransformer model = _bench.Model();
        IDataView rows = _bench.Context.Data.LoadFromEnumerable(Enumerable.Range(1, 7).Select(
            i => new Row("what", string.Concat(Enumerable.Repeat("very ", 5 * (8 - i))), string.Concat(Enumerable.Repeat("long ", i)))));
        LanguageModelMetrics one = model.EvaluateLoss(rows);
        LanguageModelMetrics many = model.EvaluateLoss(rows, batchSize);
        Assert.Equal(7, many.Rows);
        Assert.Equal(one.LabelTokens, many.LabelTokens);
        Assert.Equal(one.TokenAccuracy, many.TokenAccuracy);
        Assert.Equal(one.Loss, many.Loss, 1e-5);
        Assert.Equal(Math.Exp(many.Loss), many.Perplexity);
    }

    [Fact]
    public void Rows_become_tokens_as_the_model_s_settings_say()
    {
        using QwenLoraTransformer model = _bench.Model();
        using QwenLoraTransformer asked = model.With(options => options.SystemPrompt = "Be brief and answer in English.");
        Assert.NotEqual(model.EvaluateLoss(_bench.Rows).Loss, asked.EvaluateLoss(_bench.Rows).Loss, 1e-4);
        using QwenLoraTransformer all = _bench.Model(options => options.LabelScope = LabelScope.Everything);
        Assert.True(all.EvaluateLoss(_bench.Rows).LabelTokens > model.EvaluateLoss(_bench.Rows).LabelTokens);
        using QwenLoraTransformer cut = _bench.Model(options => options.MaximumSequenceLength = 16);
        List<string> log = [];
        _bench.Context.Log += (_, e) => log.Add(e.RawMessage);
        IDataView one = _bench.Context.Data.LoadFromEnumerable<Row>([new("what", "", string.Concat(Enumerable.Repeat("long ", 40)))]);
        Assert.InRange(cut.EvaluateLoss(one).LabelTokens, 1, 15);
        Assert.Contains(log, message => message.Contains("evaluation", StringComparison.Ordinal));
    }

    [Fact]
    public void Nothing_is_generated_for_it()
    {
        using QwenLoraTransformer model = _bench.Model();
        Assert.Equal(3, model.EvaluateLoss(model.Transform(_bench.Rows)).Rows); // nor for a view with answers
        Assert.False(model.IsOpen);
    }

    [Fact]
    public void What_is_wrong_is_said()
    {
        using QwenLoraTransformer model = _bench.Model();
        Assert.Contains("BatchSize is 0", Assert.Throws<OptionException>(() => model.EvaluateLoss(_bench.Rows, batchSize: 0)).Message);
        IDataView none = _bench.Context.Data.LoadFromEnumerable<Row>([]);
        Assert.Contains("evaluation data has no rows", Assert.Throws<DatasetException>(() => model.EvaluateLoss(none)).Message);
        IDataView gap = _bench.Context.Data.LoadFromEnumerable<Row>([new("what", "", "1"), new("why", "", "")]);
        Assert.Contains("Row 2 of the evaluation data", Assert.Throws<DatasetException>(() => model.EvaluateLoss(gap)).Message);
        IDataView other = _bench.Context.Data.LoadFromEnumerable([new { Question = "what" }]);
        Assert.Contains("'Instruction'", Assert.Throws<ArgumentOutOfRangeException>(() => model.EvaluateLoss(other)).Message);
        using CancellationTokenSource cancelled = new();
        cancelled.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => model.EvaluateLoss(_bench.Rows, cancellationToken: cancelled.Token));
        model.Dispose();
        Assert.Throws<ObjectDisposedException>(() => model.EvaluateLoss(_bench.Rows));
    }

    private void Validated(QwenLoraTrainer.Options options)
    {
        options.ValidationSet = _bench.Rows;
        options.LearningRate = 1e-2;
        options.GradientAccumulationSteps = 1;
        options.NumberOfEpochs = 4;
    }

    private static TrainingProgress Last(QwenLoraTransformer model) => model.TrainingSummary!.Steps[^1];

    private void Check(QwenLoraTransformer model, TrainingProgress said)
    {
        LanguageModelMetrics metrics = model.EvaluateLoss(_bench.Rows);
        Assert.Equal(3, metrics.Rows);
        Assert.Equal(said.ValidationLoss!.Value, metrics.Loss, 1e-4);
        Assert.Equal(said.ValidationTokenAccuracy!.Value, metrics.TokenAccuracy, 1e-12);
        Assert.Equal(said.ValidationPerplexity!.Value, metrics.Perplexity, 1e-3 * metrics.Perplexity);
    }
}
