using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Inference;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Options that change after loading: for all that follows, at loading, and for one call.</summary>
public sealed class SharedOptionsTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void Other_options_share_the_opened_engine()
    {
        using QwenLoraTransformer six = _bench.Model();
        string whole = six.Generate("what");
        using QwenLoraTransformer two = six.With(new GenerationOptions { MaximumNewTokens = 2 });

        Assert.True(two.IsOpen); // nobody asked it yet
        Assert.Equal(2, two.Generate([new InstructionRow("what")])[0].NewTokens);
        Assert.Equal(whole, six.Generate("what"));
        Assert.Equal((6, 2), (six.Generation.MaximumNewTokens, two.Generation.MaximumNewTokens));
    }

    [Fact]
    public void The_answer_that_a_conversation_of_a_view_ends_with_is_left_out_or_gone_on_with()
    {
        Conversation begun = new([ChatMessage.User("what"), ChatMessage.Assistant("a b c")]);
        IDataView view = _bench.Context.Data.LoadFromEnumerable([new Row { Conversation = ConversationJson.Write(begun) }]);
        using QwenLoraTransformer model = _bench.Model();
        foreach (bool continues in (bool[])[false, true])
        {
            using QwenLoraTransformer asking = model.With(options =>
            {
                (options.ConversationColumnName, options.PromptTokensColumnName) = ("Conversation", "Asked");
                options.Generation.ContinueFinalMessage = continues;
            });
            Conversation asked = continues ? begun : new Conversation([.. begun.Messages.SkipLast(1)]);
            GeneratedText expected = asking.Generate([asked])[0];
            IDataView answered = asking.Transform(view);
            Assert.Equal(expected.Text, answered.GetColumn<string>("Answer").Single());
            Assert.Equal(expected.PromptTokens, answered.GetColumn<int>("Asked").Single());
        }
    }

    [Fact]
    public void Disposing_one_does_not_end_the_other()
    {
        QwenLoraTransformer first = _bench.Model();
        QwenLoraTransformer second = first.With(options => options.AnswerColumnName = "Reply");
        QwenLoraTransformer third = second.With(CancellationToken.None);
        string answer = first.Generate("what");
        first.Dispose();
        first.Dispose();
        Assert.Throws<ObjectDisposedException>(() => first.Generate("what"));
        Assert.Throws<ObjectDisposedException>(() => first.With(CancellationToken.None));
        Assert.Equal(answer, second.Generate("what"));
        using (PredictionEngine<Question, Other> engine = _bench.Context.Model.CreatePredictionEngine<Question, Other>(second))
        {
            Assert.Equal(answer, engine.Predict(new Question { Instruction = "what" }).Reply);
        }

        Assert.Throws<ObjectDisposedException>(() => second.Generate("what"));
        Assert.True(third.IsOpen);
        Assert.Equal(answer, third.Generate("what"));
        third.Dispose();
        Assert.False(third.IsOpen);
    }

    [Fact]
    public void Another_prompt_or_precision_opens_another_engine()
    {
        using QwenLoraTransformer model = _bench.Model();
        _ = model.Generate("what");
        using QwenLoraTransformer asked = model.With(options => options.PromptTemplate = "Q: {instruction}");
        using QwenLoraTransformer small = model.With(options => options.WeightPrecision = WeightPrecision.Int8);
        Assert.False(asked.IsOpen);
        Assert.False(small.IsOpen);
        Assert.Equal(model.Generate("Q: what"), asked.Generate("what"));
        Assert.NotEmpty(small.Generate("what"));
    }

    [Fact]
    public void Threads_are_those_of_the_training_and_another_number_opens_another_engine()
    {
        using QwenLoraTransformer model = _bench.Fit(options => options.Threads = 2);
        string answer = model.Generate("what");
        Assert.Equal(2, model.Engine.Threads);
        using QwenLoraTransformer same = model.With(options => options.Generation.MaximumNewTokens = 2);
        using QwenLoraTransformer single = model.With(options => options.Threads = 1);
        Assert.Same(model.Engine, same.Engine);
        Assert.False(single.IsOpen);
        Assert.Equal(answer, single.Generate("what"));
        Assert.Equal(1, single.Engine.Threads);
        Assert.Contains("Threads is -1", Assert.Throws<OptionException>(() => model.With(options => options.Threads = -1)).Message);
    }

    [Fact]
    public void A_call_can_have_its_own()
    {
        using QwenLoraTransformer model = _bench.Model();
        GenerationOptions one = new() { MaximumNewTokens = 1 };
        Assert.Equal(1, model.Generate([new InstructionRow("what"), new InstructionRow("why")], one)[1].NewTokens);
        Assert.StartsWith(model.Generate("what", options: one), model.Generate("what"));
        Assert.Contains("MaximumNewTokens is 0",
            Assert.Throws<OptionException>(() => model.Generate("what", options: new GenerationOptions { MaximumNewTokens = 0 })).Message);
    }

    [Fact]
    public void Loading_can_change_what_was_saved()
    {
        using QwenLoraTransformer model = _bench.Model();
        model.Save(_bench.PathOf("model.zip"));
        using QwenLoraTransformer loaded = _bench.Context.TextGeneration.Load(_bench.PathOf("model.zip"), change: options =>
        {
            options.Generation.MaximumNewTokens = 2;
            options.NewTokensColumnName = "Tokens";
        });

        Assert.All(loaded.Transform(_bench.Rows).GetColumn<int>("Tokens"), tokens => Assert.InRange(tokens, 1, 2));
        Assert.Contains(
            "{instruction}",
            Assert.Throws<OptionException>(
                () => _bench.Context.TextGeneration.Load(_bench.PathOf("model.zip"), change: options => options.PromptTemplate = "Q")).Message);
    }

    [Fact]
    public void Sampling_that_nobody_set_is_the_checkpoints_and_stays_open_in_the_zip()
    {
        // At first greedy, as the file says nothing; the same zip samples when the file says so.
        using QwenLoraTransformer model = _bench.Model();
        Assert.Null(model.Generation.Temperature);
        string greedy = model.Generate("what");
        Assert.Equal(greedy, model.Generate("what", options: new GenerationOptions { MaximumNewTokens = 6, Temperature = 0 }));

        using Workbench other = new();
        File.WriteAllText(
            Path.Combine(other.BaseFolder, "generation_config.json"),
            """{ "eos_token_id": [1], "do_sample": true, "temperature": 3.0, "top_k": 0, "top_p": 1.0 }""");
        using QwenLoraTransformer sampling = other.Model();
        sampling.Save(other.PathOf("model.zip"));
        using QwenLoraTransformer loaded = other.Context.TextGeneration.Load(other.PathOf("model.zip"));
        Assert.Null(loaded.Generation.Temperature);
        Assert.Null(loaded.Generation.TopK);
        string[] answers = [.. Enumerable.Range(0, 5).Select(_ => loaded.Generate("what"))];
        Assert.True(answers.Distinct().Count() > 1, string.Join(" | ", answers));
        Assert.Equal(greedy, loaded.Generate("what", options: new GenerationOptions { MaximumNewTokens = 6, Temperature = 0 }));
    }

    public sealed class Other
    {
        public string Reply { get; set; } = "";
    }

    private sealed class Row
    {
        public string Conversation { get; set; } = "";
    }
}
