using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>One row, one format: what Qwen3's own templates make of rows with and without thinking, however they are written down, and what an answer
/// gives back of it.</summary>
public sealed class ThinkingTests : IDisposable
{
    /// <summary>Reads reasoning_content and enable_thinking, does not take content apart, and writes no block where there is no thinking.</summary>
    private const string BlockOfThePromptAlone =
        "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + "
        + "'\\n</think>\\n\\n' }}{%- endif %}{{- m.content + '<|im_end|>\\n' }}{%- endfor %}"
        + "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and not enable_thinking %}{{- "
        + "'<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}";

    private readonly TinyTokenizer _tiny = new();
    private readonly QwenTokenizer _tokenizer;
    private int _folders;

    public ThinkingTests() => _tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);

    public static TheoryData<string> Templates => [.. ThinkingTemplates().Keys];

    public void Dispose() => _tiny.Dispose();

    [Theory]
    [MemberData(nameof(Templates))]
    public void One_row_is_learned_in_one_form_however_it_is_written_down(string template)
    {
        RowFormatter formatter = Formatter(template);
        TextRow[] rows =
        [
            new(new InstructionRow("q", "a")),
            new(new InstructionRow("q", "a", System: "s")),
            new(new InstructionRow("q", "a", History: [new("x", "y")])),
            new(Conversation: new([ChatMessage.User("q"), ChatMessage.Assistant("a")])),
            new(Conversation: new([ChatMessage.System("s"), ChatMessage.User("q"), ChatMessage.Assistant("<think>\n\n</think>\n\na")])),
            new(Conversation: new([ChatMessage.User("x"), ChatMessage.Assistant("y", "t"), ChatMessage.User("q"), ChatMessage.Assistant("a", "")])),
        ];
        RowFormatter asking = Formatter(template, formatter.AsTrained(thinks: false));
        foreach (TextRow row in rows)
        {
            TokenizedRow learned = Assert.Single(formatter.Tokenize(row, LabelScope.Answer, 1000));
            Assert.Equal("a<|im_end|>", Learned(learned.Row));
            Assert.False(learned.Report.HasThinking);

            int[] prompt = asking.Prompt(Asked(row));
            Assert.Equal(prompt, learned.Row.InputIds[..prompt.Length]);
            Assert.EndsWith("<|im_start|>assistant\n<think>\n\n</think>\n\n", _tokenizer.Decode(prompt), StringComparison.Ordinal);
            Assert.Equal([.. _tokenizer.Encode("a"), TinyTokenizer.ImEnd], learned.Row.InputIds[prompt.Length..]);
        }
    }

    [Theory]
    [MemberData(nameof(Templates))]
    public void Thinking_in_the_data_is_learned_behind_the_prompt_that_asks_for_it(string template)
    {
        RowFormatter formatter = Formatter(template);
        TextRow[] rows =
        [
            new(new InstructionRow("q", "<think>\nt\n</think>\n\na")),
            new(new InstructionRow("q", "<think>t</think>a", System: "s")),
            new(Conversation: new([ChatMessage.User("q"), ChatMessage.Assistant("a", "t")])),
            new(Conversation: new([ChatMessage.System("s"), ChatMessage.User("q"), ChatMessage.Assistant("<think>\nt\n</think>\n\na")])),
        ];
        RowFormatter asking = Formatter(template, formatter.AsTrained(thinks: true));
        foreach (TextRow row in rows)
        {
            TokenizedRow learned = Assert.Single(formatter.Tokenize(row, LabelScope.Answer, 1000));
            Assert.True(learned.Report.HasThinking);
            int[] prompt = asking.Prompt(Asked(row));
            Assert.Equal(prompt, learned.Row.InputIds[..prompt.Length]);
            Assert.All(learned.Row.Labels[..prompt.Length], label => Assert.Equal(TrainingRow.Ignore, label));
            Assert.Equal(learned.Row.InputIds[prompt.Length..], learned.Row.Labels[prompt.Length..]);
            string opened = asking.OpensThinking() ? "<think>\n" : "";
            Assert.Equal("<think>\nt\n</think>\n\na<|im_end|>", opened + Learned(learned.Row));
        }
    }

    [Theory]
    [MemberData(nameof(Templates))]
    public void Rows_of_several_answers_are_asked_as_each_of_them_was_learned(string template)
    {
        RowFormatter formatter = Formatter(template);
        TextRow row = new(Conversation: new([ChatMessage.User("1"), ChatMessage.Assistant("2"), ChatMessage.User("3"), ChatMessage.Assistant("4", "t"),
            ChatMessage.User("5"), ChatMessage.Assistant("6")]));

        IReadOnlyList<TokenizedRow> rows = formatter.Tokenize(row, LabelScope.AllAssistantTurns, 1000);

        Assert.Equal([false, true, false], rows.Select(part => part.Report.HasThinking));
        for (int i = 0; i < 3; i++)
        {
            RowFormatter asking = Formatter(template, formatter.AsTrained(rows[i].Report.HasThinking));
            int[] prompt = asking.Prompt(new TextRow(Conversation: new([.. row.Conversation!.Messages.Take((2 * i) + 1)])));
            Assert.Equal(prompt, rows[i].Row.InputIds[..prompt.Length]);
            Assert.Equal(rows[i].Row.InputIds[prompt.Length..], rows[i].Row.Labels[prompt.Length..]);
        }
    }

    [Fact]
    public void A_template_that_knows_no_thinking_says_what_it_leaves_out()
    {
        const string Plain =
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% "
            + "endif %}";
        RowFormatter formatter = Written(Plain, new PromptSettings());
        TokenizedRow apart = Assert.Single(
            formatter.Tokenize(new TextRow(Conversation: new([ChatMessage.User("q"), ChatMessage.Assistant("a", "t")])), LabelScope.Answer, 100));
        TokenizedRow inside = Assert.Single(formatter.Tokenize(new TextRow(new InstructionRow("q", "<think>\nt\n</think>\n\na")), LabelScope.Answer, 100));
        Assert.Equal((false, true, "a<|im_end|>"), (apart.Report.HasThinking, apart.Report.LosesThinking, Learned(apart.Row)));
        Assert.Equal((true, false, "<think>\nt\n</think>\n\na<|im_end|>"), (inside.Report.HasThinking, inside.Report.LosesThinking, Learned(inside.Row)));
        Assert.Equal(new PromptSettings(), formatter.AsTrained(thinks: false));
    }

    [Theory]
    [InlineData("a", null, "a")]
    [InlineData("  a\n", null, "  a\n")]
    [InlineData("<think>\nt\nu\n</think>\n\na", "t\nu", "a")]
    [InlineData("\n<think>t</think>a</think>", "t", "a</think>")]
    [InlineData("<think>\n\n</think>\n\na", null, "a")]
    [InlineData("a <think>t</think>", null, "a <think>t</think>")]
    [InlineData("<thin air", null, "<thin air")]
    [InlineData("<thi", null, "<thi")]
    [InlineData("<think>\nnever\n</thin", "never\n</thin", "")]
    [InlineData("<think>\nnever ends\n", "never ends", "")]
    [InlineData("<think>stop here</think>\n\nit stops", "stop here", "it ")]
    [InlineData("😀<think>stöp", null, "😀<think>stöp")]
    [InlineData("", null, "")]
    public void An_answer_gives_its_thinking_apart(string generated, string? thinking, string answer)
    {
        // By token, and by the smallest pieces there are.
        foreach (int[] ids in (int[][])[[.. _tokenizer.EncodeToIds(generated)], [.. System.Text.Encoding.UTF8.GetBytes(generated).Select(Byte)]])
        {
            List<GeneratedChunk> pieces = [];
            AnswerText text = new(_tokenizer, new() { StopStrings = ["stop", "never "], TopLogprobs = 0 }, AnswerStart.Nothing, pieces.Add);
            foreach (int id in ids)
            {
                if (text.Add(new(id)))
                {
                    break;
                }
            }

            text.Finish();
            Assert.Equal((thinking, answer), (text.Thinking, text.Text));
            Assert.Equal(answer, string.Concat(pieces.Where(piece => !piece.IsThinking).Select(piece => piece.Text)));
            Assert.Equal(thinking ?? "", string.Concat(pieces.Where(piece => piece.IsThinking).Select(piece => piece.Text)));
            Assert.All(pieces, piece => Assert.Equal(0, UnicodeText.UnpairedSurrogates(piece.Text)));
            int[] told = [.. pieces.SelectMany(piece => piece.Tokens!).Select(token => token.Id)];
            Assert.Equal(ids[..told.Length], told);
        }
    }

    [Fact]
    public void Where_the_prompt_opens_the_thinking_the_answer_begins_inside_of_it()
    {
        AnswerText text = new(_tokenizer, new(), AnswerStart.OpenedThinking, _ => { });
        foreach (int id in _tokenizer.EncodeToIds("t\n</think>\n\na"))
        {
            text.Add(new(id));
        }

        text.Finish();
        Assert.Equal(("t", "a"), (text.Thinking, text.Text));
    }

    private static Dictionary<string, string> ThinkingTemplates()
    {
        Dictionary<string, string> templates = new() { ["of the prompt alone"] = BlockOfThePromptAlone };
        foreach (string file in Directory.GetFiles(Golden.Kind("templates"), "*.jinja").Order(StringComparer.Ordinal))
        {
            string template = File.ReadAllText(file);
            if (template.Contains("enable_thinking", StringComparison.Ordinal))
            {
                templates.Add(Path.GetFileName(file), template);
            }
        }

        return templates;
    }

    private static TextRow Asked(TextRow row) =>
        row.Conversation is { } whole ? new TextRow(Conversation: whole with { Messages = [.. whole.Messages.SkipLast(1)] }) : row;

    private int Byte(byte value) => Enumerable.Range(0, 256).First(id => _tokenizer.Bytes(id, skipSpecialTokens: false) is [var only] && only == value);

    private RowFormatter Formatter(string template, PromptSettings? prompt = null) => Written(ThinkingTemplates()[template], prompt ?? new PromptSettings());

    private RowFormatter Written(string template, PromptSettings prompt) =>
        new(_tokenizer, _tiny.Write($"folder{_folders++}", at => File.WriteAllText(Path.Combine(at, "chat_template.jinja"), template)), prompt);

    private string Learned(TrainingRow row) => _tokenizer.Decode([.. row.Labels.Where(label => label != TrainingRow.Ignore)]);
}
