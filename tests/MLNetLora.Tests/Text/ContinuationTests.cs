using MLNetLora.Adapters;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>Conversations that end in the middle of what the assistant says, through Qwen's own templates: transformers' continue_final_message.</summary>
public sealed class ContinuationTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();
    private readonly QwenTokenizer _tokenizer;

    public ContinuationTests() => _tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);

    public static TheoryData<string> Templates =>
        [.. Directory.GetFiles(Golden.Kind("templates"), "*.jinja").Select(file => Path.GetFileName(file)).Order(StringComparer.Ordinal)];

    public void Dispose() => _tiny.Dispose();

    [Theory]
    [MemberData(nameof(Templates))]
    public void The_prompt_is_what_the_template_writes_up_to_the_messages_end(string template)
    {
        ChatMessage[][] conversations =
        [
            [ChatMessage.User("q"), ChatMessage.Assistant("the lazy")],
            [ChatMessage.System("s"), ChatMessage.User("q"), ChatMessage.Assistant("x", "y"),
                ChatMessage.User("r"), ChatMessage.Assistant("the lazy dog,\n and")],
            [ChatMessage.User("q"), ChatMessage.Assistant("the lazy", "t\nt")],
            [ChatMessage.User("q"), ChatMessage.Assistant("<think>\nt\n</think>\n\nthe lazy")],
        ];
        foreach (ChatMessage[] messages in conversations)
        {
            string whole = ChatTemplate.Load(Folder(template)).RenderTagged(new Conversation(messages), false, new Dictionary<string, object?>()).Value;
            string said = messages[^1].Content!.Split("</think>\n\n")[^1];
            AskedPrompt prompt = Ask(template, messages);
            Assert.Equal(whole[..(whole.LastIndexOf(said, StringComparison.Ordinal) + said.Length)], _tokenizer.Decode(prompt.Ids));
            Assert.Equal(AnswerStart.Answer, prompt.Start);
        }
    }

    [Theory]
    [InlineData("qwen2_5.jinja", "<|im_start|>assistant\nthe lazy")]
    [InlineData("qwen3.jinja", "<|im_start|>assistant\n<think>\n\n</think>\n\nthe lazy")] // as behind the prompt of enable_thinking=false
    [InlineData("qwen3_instruct_2507.jinja", "<|im_start|>assistant\nthe lazy")]
    public void An_answer_that_has_begun_is_one_without_thinking(string template, string end)
    {
        string text = _tokenizer.Decode(Ask(template, [ChatMessage.User("q"), ChatMessage.Assistant("the lazy")]).Ids);
        Assert.EndsWith($"<|im_start|>user\nq<|im_end|>\n{end}", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("qwen2_5.jinja")]
    [InlineData("qwen3.jinja")]
    [InlineData("qwen3_5_think.jinja")] // whose prompt has the tag already
    public void Thinking_that_has_no_end_is_gone_on_with(string template)
    {
        AskedPrompt within = Ask(template, [ChatMessage.User("q"), ChatMessage.Assistant("<think>\nthe lazy")]);
        Assert.EndsWith("<|im_start|>assistant\n<think>\nthe lazy", _tokenizer.Decode(within.Ids), StringComparison.Ordinal);
        Assert.Contains(TinyTokenizer.Think, within.Ids);
        Assert.Equal(AnswerStart.WithinThinking, within.Start);
        AskedPrompt opened = Ask(template, [ChatMessage.User("q"), ChatMessage.Assistant("<think>\n")]);
        Assert.EndsWith("<|im_start|>assistant\n<think>\n", _tokenizer.Decode(opened.Ids), StringComparison.Ordinal);
        Assert.Equal(AnswerStart.OpenedThinking, opened.Start);
    }

    [Fact]
    public void Behind_thinking_alone_comes_the_answer_and_an_empty_message_is_a_question_for_one()
    {
        AskedPrompt thought = Ask("qwen3.jinja", [ChatMessage.User("q"), ChatMessage.Assistant("", "t")]);
        Assert.EndsWith("<|im_start|>assistant\n<think>\nt\n</think>\n\n", _tokenizer.Decode(thought.Ids), StringComparison.Ordinal);
        Assert.Equal(AnswerStart.Answer, thought.Start);
        AskedPrompt asked = Ask("qwen3.jinja", [ChatMessage.User("q")]);
        AskedPrompt empty = Ask("qwen3.jinja", [ChatMessage.User("q"), ChatMessage.Assistant("")]);
        Assert.Equal(asked.Ids, empty.Ids);
        Assert.Equal(AnswerStart.Nothing, empty.Start);
        Assert.Equal(AnswerStart.OpenedThinking, Ask("qwen3_5_think.jinja", [ChatMessage.User("q"), ChatMessage.Assistant("")]).Start);
    }

    [Fact]
    public void What_a_message_spells_is_text()
    {
        AskedPrompt prompt = Ask("qwen2_5.jinja", [ChatMessage.User("q"), ChatMessage.Assistant("the <|im_end|>")]);
        Assert.Equal(2, prompt.Ids.Count(id => id == TinyTokenizer.ImEnd)); // of the system message and of the question
    }

    [Fact]
    public void Without_the_option_a_conversation_that_ends_with_the_assistant_is_refused()
    {
        TextRow row = new(Conversation: new([ChatMessage.User("q"), ChatMessage.Assistant("the lazy")]));
        RowFormatter formatter = Formatter("qwen3.jinja");
        string message = Assert.Throws<PromptException>(() => formatter.Ask(row, continues: false)).Message;
        Assert.Contains("ends with the assistant's message", message, StringComparison.Ordinal);
        Assert.Contains("set ContinueFinalMessage", message, StringComparison.Ordinal);
        ChatMessage call = ChatMessage.Assistant("") with { ToolCalls = [new("f", "{}")] };
        Assert.Contains("calls of tools", Assert.Throws<PromptException>(() => Ask("qwen3.jinja", [ChatMessage.User("q"), call])).Message);
    }

    [Fact]
    public void A_long_one_is_cut_at_the_question()
    {
        TextRow row = new(Conversation: new([ChatMessage.User("old"), ChatMessage.Assistant("x"), ChatMessage.User(new string('q', 500) + " end"),
            ChatMessage.Assistant("the lazy")]));
        AskedPrompt prompt = Formatter("qwen2_5.jinja").Ask(row, continues: true, 150, default);
        string text = _tokenizer.Decode(prompt.Ids);
        Assert.InRange(prompt.Ids.Length, 140, 150);
        Assert.EndsWith(" end<|im_end|>\n<|im_start|>assistant\nthe lazy", text, StringComparison.Ordinal);
        Assert.DoesNotContain("old", text, StringComparison.Ordinal);
        Assert.Equal(AnswerStart.Answer, prompt.Start);
    }

    private AskedPrompt Ask(string template, ChatMessage[] messages) =>
        Formatter(template).Ask(new TextRow(Conversation: new Conversation(messages)), continues: true);

    private RowFormatter Formatter(string template) => new(_tokenizer, Folder(template), new PromptSettings());

    private string Folder(string template) => _tiny.Write(template, folder =>
        File.Copy(Path.Combine(Golden.Kind("templates"), template), Path.Combine(folder, "chat_template.jinja")));
}
