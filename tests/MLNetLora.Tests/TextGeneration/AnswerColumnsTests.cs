using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>The columns that can stand beside the answer.</summary>
public sealed class AnswerColumnsTests : IDisposable
{
    private static readonly string[] s_names = ["Answer", "Thinking", "Reason", "Asked", "Made", "Error"];

    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void They_are_what_the_answer_cost_and_why_it_ended()
    {
        using QwenLoraTransformer model = _bench.Model(All);
        IReadOnlyList<GeneratedText> expected = model.Generate(
            [new InstructionRow("what", Input: "a"), new InstructionRow("why"), new InstructionRow("who", Input: "c")]);
        IDataView view = model.Transform(_bench.Rows);

        Assert.Equal(["Instruction", "Input", "Output", .. s_names], view.Schema.Select(column => column.Name));
        Assert.Equal(NumberDataViewType.Int32, view.Schema["Made"].Type);
        Assert.Equal(expected.Select(answer => answer.Text), view.GetColumn<string>("Answer"));
        Assert.Equal(expected.Select(answer => answer.Reason == FinishReason.Stop ? "stop" : "length"), view.GetColumn<string>("Reason"));
        Assert.Equal(expected.Select(answer => answer.PromptTokens), view.GetColumn<int>("Asked"));
        Assert.Equal(expected.Select(answer => answer.NewTokens), view.GetColumn<int>("Made"));
        Assert.All(view.GetColumn<string>("Error"), Assert.Empty);
        Assert.Equal(expected.Select(answer => answer.Thinking ?? ""), view.GetColumn<string>("Thinking"));
        Assert.Contains("length", view.GetColumn<string>("Reason"));
    }

    [Fact]
    public void One_generation_fills_all_of_them()
    {
        using QwenLoraTransformer model = _bench.Model(All).With(new GenerationOptions { MaximumNewTokens = 6, Temperature = 3, TopK = 0 });
        using PredictionEngine<Question, Details> engine = _bench.Context.Model.CreatePredictionEngine<Question, Details>(model);
        for (int i = 0; i < 5; i++)
        {
            // Sampled anew for every column, text and count would soon differ.
            Details details = engine.Predict(new Question { Instruction = "what" });
            Assert.InRange(details.Made, 1, 6);
            Assert.True(details.Asked > 0);
            Assert.Equal(details.Made == 6 ? details.Reason : "stop", details.Reason);
        }
    }

    [Fact]
    public void A_pipeline_knows_them_before_it_is_fitted()
    {
        EstimatorChain<Microsoft.ML.Transforms.ColumnCopyingTransformer> chain = _bench.Trainer(All).Append(
            _bench.Context.Transforms.CopyColumns("Copy", "Made"));
        SchemaShape shape = chain.GetOutputSchema(Shape());
        Assert.Equal(s_names, shape.Select(column => column.Name).Where(name => s_names.Contains(name)));
        Assert.Equal(NumberDataViewType.Int32, shape.Single(column => column.Name == "Copy").ItemType);
    }

    [Fact]
    public void They_are_saved_and_can_be_changed()
    {
        using QwenLoraTransformer model = _bench.Model(All);
        using QwenLoraTransformer loaded = (QwenLoraTransformer)_bench.Context.Model.Load(_bench.Save(model), out _);
        Assert.Equal(["Instruction", "Input", "Output", .. s_names], loaded.Transform(_bench.Rows).Schema.Select(column => column.Name));
        using QwenLoraTransformer plain = loaded.With(options =>
        {
            (options.ThinkingColumnName, options.FinishReasonColumnName, options.PromptTokensColumnName) = (null, null, null);
            (options.NewTokensColumnName, options.ErrorColumnName) = ("Tokens", null);
        });
        Assert.Equal(["Instruction", "Input", "Output", "Answer", "Tokens"], plain.Transform(_bench.Rows).Schema.Select(column => column.Name));
    }

    [Fact]
    public void Two_of_one_name_are_refused()
    {
        Assert.Contains("'Answer'", Assert.Throws<OptionException>(() => _bench.Trainer(options => options.ErrorColumnName = "Answer")).Message);
        using QwenLoraTransformer model = _bench.Model(All);
        Assert.Contains("'Made'", Assert.Throws<OptionException>(() => model.With(options => options.AnswerColumnName = "Made")).Message);
    }

    internal static void All(QwenLoraTrainer.Options options)
    {
        options.ThinkingColumnName = "Thinking";
        options.FinishReasonColumnName = "Reason";
        options.PromptTokensColumnName = "Asked";
        options.NewTokensColumnName = "Made";
        options.ErrorColumnName = "Error";
    }

    /// <summary>The shape of the rows; ML.NET has no public way to one but an estimator's answer.</summary>
    private SchemaShape Shape() =>
        _bench.Context.Transforms.CustomMapping<Nothing, Rows>((_, _) => { }, null).GetOutputSchema(new SchemaShape([]));

    private sealed class Nothing
    {
    }

    private sealed class Rows
    {
        public string Instruction { get; set; } = "";

        public string Input { get; set; } = "";

        public string Output { get; set; } = "";
    }

    private sealed class Details
    {
        public string Reason { get; set; } = "";

        public int Asked { get; set; }

        public int Made { get; set; }
    }
}
