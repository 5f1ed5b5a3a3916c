using System.Text.Json;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;
using MLNetLora.Training;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Conversations, tools, documents and prompts through Fit and Transform with nothing faked: what is learned is what
/// <see cref="ConversationFormatter"/> says, and it is asked as it was learned.</summary>
public sealed class ConversationFitTests : IDisposable
{
    private const string ShareGpt =
        """
        {"conversations":[{"from":"human","value":"What is the code word?"},{"from":"gpt","value":"Heron."},
        """ + """
        {"from":"human","value":"And in the evening?"},{"from":"gpt","value":"Egret."}]}
        {"conversations":[{"from":"human","value":"公司在哪里？"},{"from":"gpt","value":"在昆明。"}],"system":"Be brief."}
        """;

    private const string Tools =
        """
        {"messages":[{"role":"user","content":"Weather in Kunming?"},
        """ + """
        {"role":"assistant","content":null,"tool_calls":[{"function":{"name":"weather","arguments":{"city":"Kunming"}}}]},
        """ + """
        {"role":"tool","content":"rain"},{"role":"assistant","content":"It rains."}],"tools":[{"type":"function","function":{"name":"weather"}}]}
        {"messages":[{"role":"user","content":"Hello"},{"role":"assistant","content":"no","weight":0},
        """ + """
        {"role":"user","content":"Hello!"},{"role":"assistant","content":"Good day."}]}
        """;

    /// <summary>Tools, calls and thinking as Qwen3's template writes them, in a few lines.</summary>
    private const string ToolTemplate =
        "{%- if tools %}{{- '<|im_start|>system\\nTools: ' + tools | tojson + '<|im_end|>\\n' }}{%- endif %}{%- set ns = namespace(last=-1) %}{%- for m in "
        + "messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
        + "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' and loop.index0 > ns.last %}{{- '<think>\\n' + "
        + "(m.reasoning_content or '') + '\\n</think>\\n\\n' }}{%- endif %}{{- m.content or '' }}"
        + "{%- for c in m.tool_calls or [] %}{{- '<tool_call>' + c.function.name + ' ' + c.function.arguments | tojson + '</tool_call>' }}{%- endfor %}{{- "
        + "'<|im_end|>\\n' }}{%- endfor %}"
        + "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}{{- "
        + "'<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}";

    private readonly TemporaryFolder _folder = new();
    private readonly MLContext _ml = new(seed: 1);
    private readonly List<string> _log = [];
    private string _model = Repository.Nano;

    public ConversationFitTests() => _ml.Log += (_, message) => _log.Add(message.RawMessage);

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(LabelScope.Answer, false)]
    [InlineData(LabelScope.AllAssistantTurns, false)]
    [InlineData(LabelScope.Everything, false)]
    [InlineData(LabelScope.Answer, true)]
    [InlineData(LabelScope.AllAssistantTurns, true)]
    [InlineData(LabelScope.Everything, true)]
    public void What_is_learned_of_conversations_is_what_the_formatter_says(LabelScope scope, bool tools)
    {
        if (tools)
        {
            UseTemplate(ToolTemplate);
        }

        IDataView rows = Load("a.jsonl", tools ? Tools : ShareGpt);
        using QwenLoraTransformer model = Fit(rows, options => (options.LabelScope, options.Shuffle) = (scope, false));
        ConversationFormatter formatter = new(QwenTokenizer.Load(_model), ChatTemplate.Load(_model));
        TrainingRow[] expected = [.. Dataset.Read(_folder.File("a.jsonl")).SelectMany(row => formatter.TokenizeRows(row, scope, 512)).Select(row => row.Row)];
        Assert.Equal(tools && scope == LabelScope.AllAssistantTurns ? 3 : 2, expected.Length);
        Assert.Equal(expected.Select(row => (row.InputIds.Length, row.LabelTokens)),
            model.TrainingSummary!.Steps.Select(step => ((int)step.Tokens, (int)step.LabelTokens)));
    }

    [Fact]
    public void Documents_are_learned_whole_and_in_pieces()
    {
        IDataView rows = Load("a.txt", "The heron stands in the water and waits for fish.\n苍鹭站在水中。");
        using QwenLoraTransformer model = Fit(rows, options => options.MaximumSequenceLength = 8);
        QwenTokenizer tokenizer = QwenTokenizer.Load(_model);
        int labels = File.ReadLines(_folder.File("a.txt")).Sum(line => tokenizer.Encode(line).Length);
        Assert.Equal(labels, model.TrainingSummary!.Steps.Sum(step => step.LabelTokens));
        Assert.True(model.TrainingSummary.Steps.Count > 2);
        // A model of documents can still be asked.
        Assert.Equal(["Instruction", "Input"], model.InputSchema.Select(column => column.Name));
        _ = model.Generate("heron");
    }

    [Fact]
    public void What_was_learned_with_history_is_answered_with_history()
    {
        IDataView rows = Load("a.jsonl", ShareGpt);
        using QwenLoraTransformer model = Fit(rows, options =>
        {
            (options.Rank, options.Alpha, options.TargetModules, options.NumberOfEpochs, options.LearningRate, options.LabelScope) = (16, 32, "all-linear", 40,
                5e-3, LabelScope.AllAssistantTurns);
            options.BatchSize = 2;
        });

        // The rows that were trained on, asked as they are.
        Assert.Equal(["Egret.", "在昆明。"], Answers(model, rows));
        // The same turns as instructions with system message and history, through the zip.
        _ml.Model.Save(model, rows.Schema, _folder.File("model.zip"));
        using QwenLoraTransformer loaded = (QwenLoraTransformer)new MLContext().Model.Load(_folder.File("model.zip"), out _);
        IDataView asked = _ml.Data.LoadFromEnumerable([
            new { Instruction = "What is the code word?", System = "", History = "" },
            new { Instruction = "And in the evening?", System = "", History = "[[\"What is the code word?\", \"Heron.\"]]" },
            new { Instruction = "公司在哪里？", System = "Be brief.", History = "[]" }]);
        Assert.Equal(["Heron.", "Egret.", "在昆明。"], Answers(loaded, asked));
        Assert.Equal("Egret.", loaded.Generate(
            new Conversation([ChatMessage.User("What is the code word?"), ChatMessage.Assistant("Heron."), ChatMessage.User("And in the evening?")])));
        using PredictionEngine<Turn, Reply> engine =
            _ml.Model.CreatePredictionEngine<Turn, Reply>(loaded, new PredictionEngineOptions { OwnsTransformer = false });
        Assert.Equal("Egret.", engine.Predict(new Turn { Instruction = "And in the evening?", History = "[[\"What is the code word?\", \"Heron.\"]]" }).Answer);
    }

    [Fact]
    public void A_prompt_template_goes_with_the_adapter()
    {
        IDataView rows = _ml.Data.LoadFromEnumerable([new { Instruction = "q", Output = "a" }]);
        using QwenLoraTransformer model = Fit(rows, options => (options.PromptTemplate, options.SystemPrompt) = ("根据公司内部知识回答：{instruction}", "Be brief."));
        PromptSettings expected = new("Be brief.", "根据公司内部知识回答：{instruction}");
        Assert.Equal(expected, model.Adapter.Prompt);
        Checkpoint nano = Checkpoint.Open(_model);
        model.Adapter.SaveAsPeft(_folder.File("adapter"));
        LoraAdapter adapter = LoraAdapter.LoadPeft(_folder.File("adapter"), nano);
        Assert.Equal(expected, adapter.Prompt);
        _ml.Model.Save(model, rows.Schema, _folder.File("model.zip"));
        using (QwenLoraTransformer loaded = (QwenLoraTransformer)_ml.Model.Load(_folder.File("model.zip"), out _))
        {
            Assert.Equal(expected, loaded.Adapter.Prompt);
        }

        // Asked without a word about it, the prompt is the trained one.
        QwenTokenizer tokenizer = QwenTokenizer.Load(_model);
        int prompt = new RowFormatter(tokenizer, _model, expected).Prompt(new TextRow(new InstructionRow("q"))).Length;
        using TextGenerator generator = new(nano, adapter, threads: 1);
        Assert.Equal(prompt, generator.Generate([new("q")], new GenerationOptions { MaximumNewTokens = 1 })[0].PromptTokens);
        Assert.Equal(tokenizer.Encode("根据公司内部知识回答：q").Length - tokenizer.Encode("q").Length,
            prompt - generator.Reply([new([ChatMessage.User("q")])], new GenerationOptions { MaximumNewTokens = 1 })[0].PromptTokens);

        // An adapter without a prompt of its own leaves no file behind, and a wrong file is refused.
        model.Adapter.WithPrompt(new PromptSettings()).SaveAsPeft(_folder.File("adapter"));
        Assert.False(File.Exists(_folder.File("adapter/mlnetlora_prompt.json")));
        foreach (string wrong in (string[])["{", "null", """{"prompt_template":"x"}""", """{"other":1}"""])
        {
            File.WriteAllText(_folder.File("adapter/mlnetlora_prompt.json"), wrong);
            Assert.Contains("mlnetlora_prompt.json cannot be used",
                Assert.Throws<AdapterException>(() => LoraAdapter.LoadPeft(_folder.File("adapter"), nano)).Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(null)]
    [InlineData(true)]
    [InlineData(false)]
    public void What_is_asked_is_the_beginning_of_what_was_learned(bool? thinking)
    {
        UseTemplate(ToolTemplate);
        RowFormatter formatter = new(QwenTokenizer.Load(_model), _model, new PromptSettings("Be brief.", "Q: {instruction}", thinking));
        QwenTokenizer tokenizer = QwenTokenizer.Load(_model);
        TextRow[] rows =
        [
            new(new InstructionRow("q", "a", "i")), new(new InstructionRow("q", "a", System: "s")), new(new InstructionRow("q", "a", History: [new("x", "y")])),
            .. Dataset.Read(Write("a.jsonl", Tools)).Select(row => new TextRow(Conversation: row.Conversation)),
        ];
        foreach (TextRow row in rows)
        {
            TokenizedRow learned = Assert.Single(formatter.Tokenize(row, LabelScope.Answer, 512));
            // What does not think is asked as it was learned, unless somebody says otherwise.
            RowFormatter asking = new(tokenizer, _model, formatter.AsTrained(learned.Report.HasThinking));
            TextRow asked = row.Conversation is { } whole ? new TextRow(Conversation: whole with { Messages = [.. whole.Messages.SkipLast(1)] }) : row;
            int[] prompt = asking.Prompt(asked);
            Assert.Equal(prompt, learned.Row.InputIds[..prompt.Length]);
            Assert.Equal(learned.Row.InputIds[prompt.Length..], learned.Row.Labels[prompt.Length..]);
            Assert.All(learned.Row.Labels[..prompt.Length], label => Assert.Equal(TrainingRow.Ignore, label));
            Assert.Equal(thinking != true, tokenizer.Decode(prompt).EndsWith("</think>\n\n", StringComparison.Ordinal));
            Assert.Contains(row.Instruction?.System is null ? "system\nBe brief.<|im_end|>" : "system\ns<|im_end|>", tokenizer.Decode(prompt),
                StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Thinking_is_for_templates_that_know_it()
    {
        IDataView rows = _ml.Data.LoadFromEnumerable([new { Instruction = "q", Output = "a" }]);
        Assert.Contains("does not read enable_thinking", Assert.Throws<OptionException>(() => Fit(rows, options => options.EnableThinking = false)).Message,
            StringComparison.Ordinal);
        UseTemplate(ToolTemplate);
        using QwenLoraTransformer with = Fit(rows, options => options.EnableThinking = false);
        using QwenLoraTransformer without = Fit(rows, _ => { });
        // Nobody needs to say what the data says.
        Assert.False(with.Adapter.Prompt.EnableThinking);
        Assert.False(without.Adapter.Prompt.EnableThinking);
        Assert.Equal(without.TrainingSummary!.Steps[0].LabelTokens, with.TrainingSummary!.Steps[0].LabelTokens);
        Assert.Equal(without.TrainingSummary!.Steps[0].Tokens, with.TrainingSummary.Steps[0].Tokens);
        using QwenLoraTransformer thinking = Fit(_ml.Data.LoadFromEnumerable([new { Instruction = "q", Output = "<think>\nt\n</think>\n\na" }]), _ => { });
        Assert.True(thinking.Adapter.Prompt.EnableThinking);
        _ml.Model.Save(with, rows.Schema, _folder.File("model.zip"));
        _ml.TextGeneration.UseBaseModel(_model);
        using QwenLoraTransformer loaded = (QwenLoraTransformer)_ml.Model.Load(_folder.File("model.zip"), out _);
        Assert.False(loaded.Adapter.Prompt.EnableThinking);
    }

    [Fact]
    public void Reasoning_that_the_template_does_not_write_is_a_warning()
    {
        IDataView rows = Load(
            "a.jsonl",
            """
            {"messages":[{"role":"user","content":"q"},{"role":"assistant","reasoning_content":"t","content":"a"}]}
            {"messages":[{"role":"user","content":"r"},{"role":"assistant","content":"b"}]}
            """);
        string warning = Assert.Single(Trainer(_ => { }).Preflight(rows).Warnings(), line => line.Contains("reasoning", StringComparison.Ordinal));
        Assert.StartsWith("1 of 2 training rows bring reasoning (reasoning_content) that the checkpoint's chat template does not write", warning,
            StringComparison.Ordinal);
        UseTemplate(ToolTemplate);
        Assert.DoesNotContain(Trainer(_ => { }).Preflight(rows).Warnings(), line => line.Contains("reasoning", StringComparison.Ordinal));
    }

    [Fact]
    public void No_system_message_is_refused_where_the_template_always_writes_one()
    {
        UseTemplate("{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{%- endif %}{%- for m in messages %}{{- "
            + "'<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' "
            + "}}{%- endif %}");
        QwenTokenizer tokenizer = QwenTokenizer.Load(_model);
        RowFormatter formatter = new(tokenizer, _model, new PromptSettings(SystemPrompt: ""));
        Assert.Contains("SystemPrompt is empty", Assert.Throws<OptionException>(() => formatter.Prompt(new TextRow(new InstructionRow("q")))).Message,
            StringComparison.Ordinal);
        Assert.Contains("SystemPrompt is empty",
            Assert.Throws<OptionException>(() => formatter.Prompt(new TextRow(Conversation: new Conversation([ChatMessage.User("q")])))).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Rows_that_are_cut_or_left_out_are_told_by_number()
    {
        string row(string question, string answer) =>
            JsonSerializer.Serialize(new { messages = new[] { new { role = "user", content = question }, new { role = "assistant", content = answer } } });
        string @long = string.Concat(Enumerable.Repeat("and on ", 60));
        IDataView rows = Load("a.jsonl", string.Join('\n', row("q", "a"), row(@long, "a"), row("q", @long), row("r", "b")));
        using QwenLoraTransformer model = Fit(rows, options => options.MaximumSequenceLength = 40);
        Assert.Equal(3, model.TrainingSummary!.Steps.Count);
        Assert.Contains("4 training rows, 0 for validation.", _log);
        Assert.Contains(_log,
            line => line.StartsWith("2 of 4 training rows were cut off at the maximum length (option MaximumSequenceLength)", StringComparison.Ordinal)
            && line.Contains(": rows 2, 3. ", StringComparison.Ordinal));
        Assert.Contains("1 of 4 training rows are left out, all or a part of them, because nothing is left of them to learn: row 2.", _log);

        Preflight preflight = Trainer(options => options.MaximumSequenceLength = 40).Preflight(rows);
        Assert.Equal((4, 2), (preflight.Rows, preflight.EndLearnedCount));
        Assert.Contains("is learned in 2 of 4 rows", preflight.ToString(), StringComparison.Ordinal);
        Assert.Contains("None of the 4 validation rows has a token to learn",
            Assert.Throws<DatasetException>(() => Fit(_ml.Data.LoadFromEnumerable([new { Instruction = "q", Output = "a" }]), options =>
        {
            options.MaximumSequenceLength = 15;
            options.ValidationSet = _ml.Data.LoadFromEnumerable(Enumerable.Repeat(new { Instruction = @long, Output = "a" }, 4));
        })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Invalid_characters_are_counted_from_the_file_to_the_report()
    {
        IDataView rows =
            Load("a.jsonl", """{"messages":[{"role":"user","content":"q\ud83d"},{"role":"assistant","content":"a\ude00\ud83d\ude00"},"""
                + """{"role":"user","content":"r"},{"role":"assistant","content":"b"}]}""");
        Assert.Equal(2, Trainer(options => options.LabelScope = LabelScope.AllAssistantTurns).Preflight(rows).ReplacedCharacters);
        IDataView instructions = Load("b.json", """[{"instruction":"q\ud83d","output":"a","history":[["\ude00","x"]]}]""");
        Assert.Contains("2 invalid characters (surrogates without their partner) were replaced", Trainer(_ => { }).Preflight(instructions).ToString(),
            StringComparison.Ordinal);
        UseTemplate(ToolTemplate);
        Assert.Equal(2, Trainer(options => options.LabelScope = LabelScope.AllAssistantTurns).Preflight(rows).ReplacedCharacters);
        Assert.Equal(1, Trainer(options => options.MaximumSequenceLength = 4).Preflight(
            _ml.Data.LoadFromEnumerable([new { Text = "the heron stands \ud83d there" }])).ReplacedCharacters);
    }

    [Fact]
    public void A_template_that_refuses_a_row_is_told_with_its_number()
    {
        UseTemplate("{%- for m in messages %}{%- if m.role == 'tool' %}{{- raise_exception('no tools') }}{%- endif %}{{- '<|im_start|>' + m.role + '\\n' + "
            + "(m.content or '') + '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}");
        Assert.Contains("Row 1 of the training data: The chat template cannot render this conversation",
            Assert.Throws<DatasetException>(() => Fit(Load("a.jsonl", Tools), _ => { })).Message, StringComparison.Ordinal);
    }

    /// <summary>The nano checkpoint with another chat template.</summary>
    private void UseTemplate(string template)
    {
        _model = Directory.CreateDirectory(_folder.File("model")).FullName;
        foreach (string file in Directory.EnumerateFiles(Repository.Nano))
        {
            File.Copy(file, Path.Combine(_model, Path.GetFileName(file)), overwrite: true);
        }

        File.WriteAllText(Path.Combine(_model, "chat_template.jinja"), template);
    }

    private string Write(string name, string content)
    {
        File.WriteAllText(_folder.File(name), content);
        return _folder.File(name);
    }

    private IDataView Load(string name, string content) => _ml.Data.LoadFromInstructionFile(Write(name, content));

    private QwenLoraTrainer Trainer(Action<QwenLoraTrainer.Options> change)
    {
        QwenLoraTrainer.Options options = new()
        {
            ModelPath = _model,
            Rank = 4,
            Dropout = 0,
            GradientAccumulationSteps = 1,
            NumberOfEpochs = 1,
            Generation = new GenerationOptions { MaximumNewTokens = 12 },
        };
        change(options);
        return _ml.TextGeneration.Trainers.QwenLora(options);
    }

    private QwenLoraTransformer Fit(IDataView rows, Action<QwenLoraTrainer.Options> change) => Trainer(change).Fit(rows);

    private static string[] Answers(QwenLoraTransformer model, IDataView rows) => [.. model.Transform(rows).GetColumn<string>("Answer")];

    private sealed class Turn
    {
        public string Instruction { get; set; } = "";

        public string History { get; set; } = "";
    }
}
