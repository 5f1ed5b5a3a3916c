using System.Reflection;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Data set files as views: their columns, their rows, what the trainer makes of them.</summary>
public sealed class DataFormatTests : IDisposable
{
    private const string ShareGpt = """{"conversations":[{"from":"human","value":"问"},{"from":"gpt","value":"a"},{"from":"human","value":"r"},"""
        + """{"from":"gpt","value":"b"}],"system":"s"}""";

    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Theory]
    [InlineData("a.json", """[{"instruction":"q","output":"a"}]""", "Instruction=q|Input=|Output=a")]
    [InlineData("a.json", """[{"instruction":"q","input":"i","output":"a"},{"instruction":"r","output":"b"}]""", "Instruction=q|Input=i|Output=a")]
    [InlineData(
        "a.json",
        """[{"instruction":"q","output":"a","history":[["问","y\"\ud83d"]]},{"instruction":"q","output":"a","system":"s"}]""",
        """Instruction=q|Input=|Output=a|System=|History=[["问", "y\"\ud83d"]]""")]
    [InlineData(
        "a.jsonl",
        ShareGpt,
        """Conversation={"messages":[{"role":"system","content":"s"},{"role":"user","content":"问"},{"role":"assistant","content":"a"},"""
        + """{"role":"user","content":"r"},{"role":"assistant","content":"b"}]}""")]
    [InlineData("a.jsonl", """{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"reasoning_content":"t","tool_calls":["""
        + """{"id":"1","function":{"name":"f","arguments":{"x":1}}}]},{"role":"tool","content":"\ud83d","tool_call_id":"1"},"""
        + """{"role":"assistant","content":"a"}],"tools":[{"name":"f"}]}""",
        """Conversation={"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"reasoning_content":"t","tool_calls":["""
        + """{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},{"role":"tool","content":"\ud83d","tool_call_id":"1"},"""
        + """{"role":"assistant","content":"a"}],"tools":[{"type": "function", "function": {"name":"f"}}]}""")]
    [InlineData(
        "a.jsonl",
        """{"prompt":[{"role":"user","content":"q"},{"role":"assistant","content":"x"},{"role":"user","content":"r"}],"completion":"a"}""",
        """Conversation={"messages":[{"role":"user","content":"q","weight":0},{"role":"assistant","content":"x","weight":0},"""
        + """{"role":"user","content":"r","weight":0},{"role":"assistant","content":"a"}]}""")]
    [InlineData("a.txt", "one\ntwo", "Text=one")]
    [InlineData("a.csv", "instruction,output,system\nq,a,s\n", "Instruction=q|Input=|Output=a|System=s")]
    public void Every_format_has_its_columns(string name, string content, string first)
    {
        IDataView view = Load(name, content);
        Assert.Equal(first, string.Join('|', view.Schema.Select(column => $"{column.Name}={view.GetColumn<string>(column).First()}")));
        // What the columns say is what the file says.
        DatasetRow[] rows = [.. Dataset.Read(_bench.PathOf(name))];
        TextRow[] read = [.. TrainingRows.Read(view, _bench.TrainerOptions().Columns, "training", default)];
        Assert.Equal(rows.Length, read.Length);
        foreach ((DatasetRow row, TextRow text) in rows.Zip(read))
        {
            Assert.Equal(row.Document, text.Document);
            Assert.Equivalent(row.Instruction, text.Instruction);
            Conversation? conversation = text.Instruction is null ? text.Conversation : Conversation.From(text.Instruction);
            Assert.Equivalent(row.Conversation?.Messages, conversation?.Messages);
            Assert.Equal(row.Conversation?.Tools?.Select(tool => tool.GetRawText()), conversation?.Tools?.Select(tool => tool.GetRawText()));
        }
    }

    [Fact]
    public void Several_files_of_several_formats_are_one_view()
    {
        File.WriteAllText(_bench.PathOf("1.json"), """[{"instruction":"q","output":"a"}]""");
        File.WriteAllText(_bench.PathOf("2.jsonl"), ShareGpt);
        File.WriteAllText(_bench.PathOf("3.txt"), "one\ntwo");
        IDataView[] views =
        [
            _bench.Context.Data.LoadFromInstructionFile(_bench.PathOf("?.*")),
            _bench.Context.Data.LoadFromInstructionFile([_bench.PathOf("1.json"), _bench.PathOf("2.jsonl"), _bench.PathOf("*.txt")]),
        ];
        foreach (IDataView view in views)
        {
            Assert.Equal(["Instruction", "Input", "Output", "Conversation", "Text"], view.Schema.Select(column => column.Name));
            Assert.Equal(["instruction q", "conversation b", "document one", "document two"], Read(view, _bench.TrainerOptions()).Select(Describe));
        }

        Assert.Contains(
            "\"text\" is missing",
            Assert.Throws<DatasetException>(() => _bench.Context.Data.LoadFromInstructionFile(_bench.PathOf("1.json"), DatasetFormat.Text)).Message,
            StringComparison.Ordinal);
    }

    private static string Describe(TextRow row) => row switch
    {
        { Instruction: { } instruction } => $"instruction {instruction.Instruction}",
        { Document: { } document } => $"document {document}",
        _ => $"conversation {row.Conversation!.Messages[^1].Content}",
    };

    [Fact]
    public void What_is_wrong_with_a_row_is_said_when_the_file_is_loaded()
    {
        string rows = ShareGpt + "\n" + ShareGpt.Replace("human", "robot", StringComparison.Ordinal);
        Assert.Contains(
            "a.jsonl, line 2, row 2, message 1: the role \"robot\" is not known",
            Assert.Throws<DatasetException>(() => Load("a.jsonl", rows)).Message,
            StringComparison.Ordinal);
        Assert.Contains("has no rows", Assert.Throws<DatasetException>(() => Load("a.jsonl", "")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("", "", "[{]", "Row 2 of the training data, column 'Conversation': the conversation is not valid JSON")]
    [InlineData("", "", "3", "Row 2 of the training data, column 'Conversation': the conversation is a number")]
    [InlineData(
        "",
        "",
        """[{"role":"user","content":"q"}]""",
        "Row 2 of the training data, column 'Conversation': no message of the assistant is there to be learned")]
    [InlineData("", "", """{"turns":[]}""", "Row 2 of the training data, column 'Conversation': \"messages\" is missing; the row has \"turns\"")]
    [InlineData("", "", """{"\ud83d":[]}""", "Row 2 of the training data, column 'Conversation': the name of a field is not valid text")]
    [InlineData(
        "q",
        "",
        """[{"role":"assistant","content":"a"}]""",
        "Row 2 of the training data has both an instruction (column 'Instruction') and a conversation (column 'Conversation')")]
    [InlineData("q", "[[\"a\"]]", "", "Row 2 of the training data, column 'History': turn 1 of \"history\" is not a pair of texts")]
    [InlineData("q", "x", "", "Row 2 of the training data, column 'History' is not JSON such as")]
    [InlineData("", "", "", "Row 2 of the training data: column 'Instruction' and column 'Conversation' are empty; every row needs to say something")]
    public void A_column_that_does_not_hold_what_it_should_is_named_with_its_row(string instruction, string history, string conversation, string message)
    {
        IDataView view = _bench.Context.Data.LoadFromEnumerable([new { Instruction = "q", Output = "a", History = "", Conversation = "" },
            new { Instruction = instruction, Output = instruction.Length > 0 ? "a" : "", History = history, Conversation = conversation }]);
        Assert.Contains(message, Assert.Throws<DatasetException>(() => _bench.Trainer().Fit(view)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_column_can_have_another_name_and_default_names_yield()
    {
        IDataView view = _bench.Context.Data.LoadFromEnumerable([
            new { Q = "q", A = "a", S = "s", H = "[[\"x\",\"y\"]]", C = "", D = "" },
            new { Q = "", A = "", S = "", H = "", C = """[{"role":"user","content":"c"},{"role":"assistant","content":"d"}]""", D = "" },
            new { Q = "", A = "", S = "", H = "", C = "", D = "doc" },
        ]);
        void Named(QwenLoraTrainer.Options options)
        {
            (options.InstructionColumnName, options.OutputColumnName, options.SystemColumnName) = ("Q", "A", "S");
            (options.HistoryColumnName, options.ConversationColumnName, options.TextColumnName) = ("H", "C", "D");
        }

        QwenLoraTrainer.Options named = _bench.TrainerOptions();
        Named(named);
        TextRow[] rows = Read(view, named);
        using QwenLoraTransformer model = _bench.Trainer(Named).Fit(view);
        Assert.Equal(9, model.TrainingSummary!.Steps[^1].TotalSteps * rows.Length);
        Assert.Equal(("q", "a", "s"), (rows[0].Instruction!.Instruction, rows[0].Instruction!.Output, rows[0].Instruction!.System));
        Assert.Equal([new InstructionTurn("x", "y")], rows[0].Instruction!.History!);
        Assert.Equal(["c", "d"], rows[1].Conversation!.Messages.Select(message => message.Content));
        Assert.Equal("doc", rows[2].Document);

        // A name given by hand must be there.
        foreach (string option in (string[])["System", "History", "Conversation", "Text"])
        {
            PropertyInfo property = typeof(QwenLoraTrainer.Options).GetProperty($"{option}ColumnName")!;
            QwenLoraTrainer trainer = _bench.Trainer(options => property.SetValue(options, "Z"));
            string refusal = Assert.Throws<ArgumentOutOfRangeException>(() => trainer.Fit(_bench.Rows)).Message;
            Assert.Contains($"The data has no column 'Z' (option {option}ColumnName)", refusal, StringComparison.Ordinal);
        }

        // A default name that is given to something else, or that is of another type, is not read.
        IDataView texts = _bench.Context.Data.LoadFromEnumerable([new { Text = "q", Output = "a", System = 3f, History = "[]" }]);
        QwenLoraTrainer.Options other = _bench.TrainerOptions();
        (other.InstructionColumnName, other.HistoryColumnName) = ("Text", null);
        Assert.Equal(new InstructionRow("q", "a"), Assert.Single(Read(texts, other)).Instruction);
        Assert.Contains(
            "Two of the column names are 'Input'",
            Assert.Throws<OptionException>(() => _bench.Trainer(options => options.SystemColumnName = "Input")).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_asked_has_the_columns_of_what_was_trained_without_its_answers()
    {
        using QwenLoraTransformer model = _bench.Model();
        IDataView view = _bench.Context.Data.LoadFromEnumerable([
            new { Instruction = "q", System = "s", History = "[[\"x\",\"y\"]]", Conversation = "" },
            new { Instruction = "", System = "", History = "", Conversation = """{"messages":[{"role":"user","content":"c"},"""
                + """{"role":"assistant","content":"d"},{"role":"tool","content":"e"},{"role":"assistant","content":"f"},{"role":"assistant","content":"g"}"""
                + """],"tools":[{"name":"t"}]}""" }]);
        IDataView answers = model.Transform(view);
        Conversation first = Conversation.From(new InstructionRow("q", System: "s", History: [new InstructionTurn("x", "y")]));
        Conversation second = new(
            [ChatMessage.User("c"), ChatMessage.Assistant("d"), ChatMessage.Tool("e")],
            ConversationJson.Read("""{"messages":[{"role":"user","content":"c"}],"tools":[{"name":"t"}]}""", "t").Tools);
        Assert.Equal([_bench.Answer(first), _bench.Answer(second)], answers.GetColumn<string>("Answer"));
        Conversation asked = new([ChatMessage.User("c"), ChatMessage.User("d")]);
        Assert.Equal(_bench.Answer(asked), model.Generate(asked));

        Assert.Contains(
            "no column 'Instruction'",
            Assert.Throws<ArgumentOutOfRangeException>(() => model.Transform(_bench.Context.Data.LoadFromEnumerable([new { Text = "d" }]))).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_row_that_is_no_conversation_fails_alone()
    {
        using QwenLoraTransformer model = _bench.Model().With(options => options.ErrorColumnName = "Why");
        List<string> log = [];
        _bench.Context.Log += (_, message) => log.Add(message.RawMessage);
        IDataView view = _bench.Context.Data.LoadFromEnumerable([
            new Asked { Conversation = """[{"role":"user","content":"c"}]""" },
            new Asked { Conversation = """[{"role":"assistant","content":"d"}]""" },
            new Asked { Conversation = """[{"role":"user",""" },
            new Asked { Conversation = """[{"role":"user","content":"e"}]""" }]);
        IDataView answers = model.Transform(view);

        string[] texts = [.. answers.GetColumn<string>("Answer")];
        Assert.Equal(["", ""], texts[1..3]);
        Assert.Equal(
            [_bench.Answer(new Conversation([ChatMessage.User("c")])), _bench.Answer(new Conversation([ChatMessage.User("e")]))],
            [texts[0], texts[3]]);
        string[] why = [.. answers.GetColumn<string>("Why")];
        Assert.Equal(["", ""], [why[0], why[3]]);
        Assert.StartsWith("Row 2, column 'Conversation': nobody asks anything", why[1], StringComparison.Ordinal);
        Assert.StartsWith("Row 3, column 'Conversation'", why[2], StringComparison.Ordinal);
        Assert.Contains(log, message => message.StartsWith("Row 3, column 'Conversation'", StringComparison.Ordinal));

        // With one row and no column for it, it is thrown.
        using QwenLoraTransformer silent = _bench.Model();
        using PredictionEngine<Asked, Reply> engine = _bench.Context.Model.CreatePredictionEngine<Asked, Reply>(
            silent, new PredictionEngineOptions { OwnsTransformer = false });
        Assert.Throws<DatasetException>(() => engine.Predict(new Asked { Conversation = "[" }));
    }

    private static TextRow[] Read(IDataView view, QwenLoraTrainer.Options options) => [.. TrainingRows.Read(view, options.Columns, "training", default)];

    private IDataView Load(string name, string content)
    {
        File.WriteAllText(_bench.PathOf(name), content);
        return _bench.Context.Data.LoadFromInstructionFile(_bench.PathOf(name));
    }

    private sealed class Asked
    {
        public string Conversation { get; set; } = "";
    }

    private sealed class Reply
    {
        public string Answer { get; set; } = "";
    }
}
