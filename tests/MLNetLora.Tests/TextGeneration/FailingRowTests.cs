using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>A row fails alone: the tiny checkpoint's context is 256 tokens, and row 21 of 40 has more.</summary>
public sealed class FailingRowTests : IDisposable
{
    private const int Number = 21;

    private readonly Workbench _bench = new();
    private readonly List<string> _warnings = [];

    public FailingRowTests() => _bench.Context.Log += (_, message) =>
    {
        if (message.Kind == Microsoft.ML.Runtime.ChannelMessageKind.Warning)
        {
            _warnings.Add(message.RawMessage);
        }
    };

    private static string TooLong => string.Concat(Enumerable.Repeat("too long ", 300));

    private IDataView Rows => _bench.Context.Data.LoadFromEnumerable(
        Enumerable.Range(1, 40).Select(number => new Row(number == Number ? TooLong : $"what {number}", "", "")));

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void The_others_are_answered_and_it_is_named()
    {
        using QwenLoraTransformer model = _bench.Model(AnswerColumnsTests.All);
        IDataView view = _bench.Context.Data.Cache(model.Transform(Rows));
        string[] answers = [.. view.GetColumn<string>("Answer")];
        string[] errors = [.. view.GetColumn<string>("Error")];
        string[] reasons = [.. view.GetColumn<string>("Reason")];

        Assert.Equal(40, answers.Length);
        Assert.Equal("", answers[Number - 1]);
        Assert.Equal("error", reasons[Number - 1]);
        Assert.StartsWith($"Row {Number}: ", errors[Number - 1]);
        for (int i = 0; i < 40; i++)
        {
            Assert.Equal(i == Number - 1, answers[i] == "" && reasons[i] == "error" && errors[i] != "");
            if (i != Number - 1)
            {
                Assert.Equal(_bench.Answer($"what {i + 1}"), answers[i]);
            }
        }
    }

    [Fact]
    public void Without_a_column_for_it_the_log_names_it()
    {
        using QwenLoraTransformer model = _bench.Model();
        string[] answers = [.. model.Transform(Rows).GetColumn<string>("Answer")];
        Assert.Equal(40, answers.Length);
        Assert.Contains(_warnings, warning => warning.StartsWith($"Row {Number}: ", StringComparison.Ordinal));
    }

    [Fact]
    public void A_prediction_engine_throws_it_unless_it_has_a_column()
    {
        using QwenLoraTransformer model = _bench.Model();
        using (PredictionEngine<Question, Reply> engine = Engine<Reply>(model))
        {
            Assert.Contains("tokens", Assert.ThrowsAny<MLNetLoraException>(() => engine.Predict(new Question { Instruction = TooLong })).Message);
            Assert.Equal(_bench.Answer("what"), engine.Predict(new Question { Instruction = "what" }).Answer);
        }

        Assert.ThrowsAny<MLNetLoraException>(() => model.Generate(TooLong));
        using QwenLoraTransformer telling = model.With(options => options.ErrorColumnName = "Error");
        using PredictionEngine<Question, Failed> other = Engine<Failed>(telling);
        Assert.Contains("tokens", other.Predict(new Question { Instruction = TooLong }).Error);
        Assert.Equal("", other.Predict(new Question { Instruction = "what" }).Error);
    }

    [Fact]
    public void An_option_gives_it_an_empty_answer_or_cuts_it_from_the_left()
    {
        using QwenLoraTransformer model = _bench.Model(AnswerColumnsTests.All);
        foreach (PromptOverflow overflow in (PromptOverflow[])[PromptOverflow.EmptyAnswer, PromptOverflow.TruncateLeft])
        {
            using QwenLoraTransformer other = model.With(options => options.Generation.WhenPromptTooLong = overflow);
            IDataView view = _bench.Context.Data.Cache(other.Transform(Rows));
            Assert.Equal(40, view.GetColumn<string>("Answer").Count());
            Assert.All(view.GetColumn<string>("Error"), Assert.Empty);
            Assert.Equal(overflow == PromptOverflow.EmptyAnswer, view.GetColumn<int>("Made").ElementAt(Number - 1) == 0);
        }

        Assert.DoesNotContain(_warnings, warning => warning.Contains($"Row {Number}", StringComparison.Ordinal));
    }

    private PredictionEngine<Question, T> Engine<T>(QwenLoraTransformer model)
        where T : class, new() => _bench.Context.Model.CreatePredictionEngine<Question, T>(model, new PredictionEngineOptions { OwnsTransformer = false });

    private sealed class Failed
    {
        public string Error { get; set; } = "";
    }
}
