using Microsoft.ML;
using MLNetLora.Evaluation;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary><c>ml.TextGeneration.Evaluate</c>: answers of a view against its references.</summary>
public sealed class EvaluateTests : IDisposable
{
    private readonly Workbench _bench = new();

    private TextGenerationCatalog Catalog => _bench.Context.TextGeneration;

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void The_metrics_are_means_of_the_rows_and_chrF_of_all_together()
    {
        (string Output, string Answer)[] rows =
            [("Thirty days.", "Thirty days."), ("Ask your manager first.", "First ask a manager"), ("昆明", "在昆明"), ("no", "  ")];
        TextGenerationMetrics metrics = Catalog.Evaluate(View(rows));
        ChrF chrF = new();
        ChrF words = new(ChrF.PlusPlus);
        Array.ForEach(rows, row => chrF.Add(row.Answer, row.Output));
        Array.ForEach(rows, row => words.Add(row.Answer, row.Output));
        Assert.Equal(4, metrics.Rows);
        Assert.Equal(0.25, metrics.ExactMatch);
        Assert.Equal(rows.Average(row => Rouge.N(row.Answer, row.Output, 1).FMeasure), metrics.Rouge1, 1e-12);
        Assert.Equal(rows.Average(row => Rouge.N(row.Answer, row.Output, 2).FMeasure), metrics.Rouge2, 1e-12);
        Assert.Equal(rows.Average(row => Rouge.L(row.Answer, row.Output).FMeasure), metrics.RougeL, 1e-12);
        Assert.Equal(chrF.Score, metrics.ChrF);
        Assert.Equal(words.Score, metrics.ChrFPlusPlus);
        Assert.NotEqual(rows.Average(row => ChrF.Sentence(row.Answer, row.Output)), metrics.ChrF, 1e-3);
        Assert.Equal(rows.Average(row => Bleu.Sentence(row.Answer, row.Output)), metrics.Bleu4, 1e-12);
        Assert.Equal((12 + 19 + 3 + 2) / 4.0, metrics.MeanAnswerLength);
        Assert.Equal((12 + 23 + 2 + 2) / 4.0, metrics.MeanReferenceLength);
        Assert.Equal((1, null, 0), (metrics.EmptyAnswers, metrics.FailedRows, metrics.RowsWithoutReference));
    }

    [Fact]
    public void A_model_is_scored_by_its_answers()
    {
        using QwenLoraTransformer model = _bench.Model();
        string[] answers = _bench.Answers;
        IDataView rows = _bench.Context.Data.LoadFromEnumerable<Row>([new("what", "a", answers[0]), new("why", "", "other"), new("who", "c", answers[2])]);
        TextGenerationMetrics metrics = Catalog.Evaluate(model.Transform(rows));
        Assert.Equal((3, 2 / 3.0), (metrics.Rows, metrics.ExactMatch));
        Assert.InRange(metrics.ChrF, 50, 100);
    }

    [Fact]
    public void Columns_have_other_names_where_that_is_said()
    {
        IDataView data = _bench.Context.Data.LoadFromEnumerable([new { Said = "yes", Wanted = "yes" }, new { Said = "no", Wanted = "yes" }]);
        Assert.Equal(0.5, Catalog.Evaluate(data, labelColumnName: "Wanted", predictedColumnName: "Said").ExactMatch);
    }

    [Fact]
    public void A_column_that_is_missing_is_named_before_anything_is_answered()
    {
        using QwenLoraTransformer model = _bench.Model();
        void Refused(string message, Action evaluate) =>
            Assert.Contains(message, Assert.Throws<ArgumentOutOfRangeException>(evaluate).Message, StringComparison.Ordinal);

        Refused("no column 'Answer' (option predictedColumnName)", () => Catalog.Evaluate(_bench.Rows));
        Refused("no column 'Wanted' (option labelColumnName)", () => Catalog.Evaluate(model.Transform(_bench.Rows), labelColumnName: "Wanted"));
        Refused("no column 'Talk' (option conversationColumnName)", () => Catalog.Evaluate(model.Transform(_bench.Rows), conversationColumnName: "Talk"));
        Refused("no column 'Error' (option errorColumnName)", () => Catalog.Evaluate(model.Transform(_bench.Rows), errorColumnName: "Error"));
        IDataView numbers = _bench.Context.Data.LoadFromEnumerable([new { Answer = "1", Output = 1f }]);
        Refused("'Output' (option labelColumnName) is of type", () => Catalog.Evaluate(numbers));
        Assert.Throws<OptionException>(() => Catalog.Evaluate(_bench.Rows, rougeTokenizer: (RougeTokenizer)9));
        Assert.False(model.IsOpen);
    }

    [Fact]
    public void Rows_that_failed_are_counted_where_their_column_is_named()
    {
        using QwenLoraTransformer model = _bench.Model().With(options => options.ErrorColumnName = "Problem");
        IDataView rows = _bench.Context.Data.LoadFromEnumerable<Row>([new("what", "a", "1"), new(string.Concat(Enumerable.Repeat("long ", 300)), "", "2")]);
        TextGenerationMetrics metrics = Catalog.Evaluate(model.Transform(rows), errorColumnName: "Problem");
        Assert.Equal((2, 1, 1L), (metrics.Rows, metrics.FailedRows, metrics.EmptyAnswers));
    }

    [Fact]
    public void Rows_without_a_reference_are_told_and_not_scored()
    {
        List<string> log = [];
        _bench.Context.Log += (_, e) => log.Add(e.RawMessage);
        TextGenerationMetrics metrics = Catalog.Evaluate(View([("yes", "yes"), ("", "what"), (" ", "why")]));
        Assert.Equal((1, 2, 1.0), (metrics.Rows, metrics.RowsWithoutReference, metrics.ExactMatch));
        Assert.Contains("2 rows have no reference to compare their answers with; 1 were scored.", log);
        Assert.Contains("None of the 1 rows has a reference", Assert.Throws<DatasetException>(() => Catalog.Evaluate(View([("", "what")]))).Message);
        Assert.Contains("no rows", Assert.Throws<DatasetException>(() => Catalog.Evaluate(View([]))).Message);
    }

    [Fact]
    public void The_reference_of_a_conversation_is_its_last_answer()
    {
        const string Json = """
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nd"}]}
            """;
        IDataView conversations = _bench.Context.Data.LoadFromEnumerable(
            [new { Conversation = Json, Answer = "d" }, new { Conversation = """[{"role": "user", "content": "x"}]""", Answer = "y" }]);
        TextGenerationMetrics metrics = Catalog.Evaluate(conversations);
        Assert.Equal((1, 1, 1.0), (metrics.Rows, metrics.RowsWithoutReference, metrics.ExactMatch));

        // Rows of both kinds: what is in the label's column goes first. Other names, and none.
        IDataView both = _bench.Context.Data.LoadFromEnumerable(
            [new { Talk = Json, Output = "", Answer = "d" }, new { Talk = "", Output = "<think>so</think>e", Answer = "e" }]);
        metrics = Catalog.Evaluate(both, conversationColumnName: "Talk");
        Assert.Equal((2, 1.0), (metrics.Rows, metrics.ExactMatch));
        Assert.Equal(1, Catalog.Evaluate(both, conversationColumnName: null).Rows);
        IDataView broken = _bench.Context.Data.LoadFromEnumerable([new { Conversation = "{", Answer = "d" }]);
        Assert.Contains("Row 1, column 'Conversation'", Assert.Throws<DatasetException>(() => Catalog.Evaluate(broken)).Message);
    }

    [Fact]
    public void What_ROUGE_takes_for_a_word_can_be_said()
    {
        IDataView data = View([("在昆明", "昆明")]);
        Assert.Equal(0.8, Catalog.Evaluate(data).RougeL, 1e-12);
        Assert.Equal(0, Catalog.Evaluate(data, rougeTokenizer: RougeTokenizer.RougeScore).RougeL);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("Input")]
    public void A_file_is_split_for_training_and_test(string? samplingKey)
    {
        string file = _bench.PathOf("rows.jsonl");
        File.WriteAllLines(file, Enumerable.Range(0, 40).Select(i => $$"""{"instruction": "what {{i}}", "input": "document {{i / 4}}", "output": "{{i}}"}"""));
        IDataView rows = _bench.Context.Data.LoadFromInstructionFile(file);
        Assert.Null(rows.GetRowCount()); // the file is streamed
        DataOperationsCatalog.TrainTestData split = _bench.Context.Data.TrainTestSplit(rows, testFraction: 0.3, samplingKeyColumnName: samplingKey, seed: 1);
        (Row[] train, Row[] test) = (Of(split.TrainSet), Of(split.TestSet));
        Assert.Equal(Of(rows).Select(row => row.Output).Order(), train.Concat(test).Select(row => row.Output).Order());
        Assert.InRange(test.Length, 4, 36);
        if (samplingKey is not null)
        {
            Assert.Empty(train.Select(row => row.Input).Intersect(test.Select(row => row.Input))); // questions about one document stay together
        }

        using QwenLoraTransformer model = _bench.Trainer(options => options.MaximumSteps = 1).Fit(split.TrainSet);
        Assert.Equal(test.Length, Catalog.Evaluate(model.Transform(split.TestSet)).Rows);
        Assert.Equal(test.Length, model.EvaluateLoss(split.TestSet).Rows);

        Row[] Of(IDataView view) => [.. _bench.Context.Data.CreateEnumerable<TextColumnsOf>(view, reuseRowObject: false)
            .Select(row => new Row(row.Instruction, row.Input, row.Output))];
    }

    private IDataView View(IEnumerable<(string Output, string Answer)> rows) =>
        _bench.Context.Data.LoadFromEnumerable(rows.Select(row => new AnsweredRow { Output = row.Output, Answer = row.Answer }));

    private sealed class AnsweredRow
    {
        public string Output { get; set; } = "";

        public string Answer { get; set; } = "";
    }

    private sealed class TextColumnsOf
    {
        public string Instruction { get; set; } = "";

        public string Input { get; set; } = "";

        public string Output { get; set; } = "";
    }
}
