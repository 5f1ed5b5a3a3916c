using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>What goes first when a prompt is cut from the left, and what never goes.</summary>
public sealed class PromptCutTests : IDisposable
{
    private const string ChatMl =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif "
        + "%}";

    private readonly TinyTokenizer _tiny = new();
    private readonly QwenTokenizer _tokenizer;
    private readonly ConversationFormatter _formatter;

    public PromptCutTests()
    {
        _tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);
        _formatter = new ConversationFormatter(_tokenizer, ChatTemplate.Parse(ChatMl));
    }

    public void Dispose() => _tiny.Dispose();

    [Fact]
    public void The_oldest_turns_go_first_then_the_beginning_of_the_last_message_and_never_the_system_message()
    {
        Conversation whole = new([
            ChatMessage.System("Be brief."), ChatMessage.User("first"), ChatMessage.Assistant("one"), ChatMessage.User("second"), ChatMessage.Assistant("two"),
            ChatMessage.User("0123456789 the last 😀😀 question")]);
        int shortest = Length(whole with { Messages = [whole.Messages[0], ChatMessage.User("")] });
        HashSet<string> kept = [];
        for (int maximum = Length(whole); maximum >= shortest; maximum--)
        {
            int[] ids = PromptCut.Fit(whole, _formatter.Prompt, maximum);

            string text = _tokenizer.Decode(ids);
            Assert.True(ids.Length <= maximum);
            Assert.StartsWith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n", text, StringComparison.Ordinal);
            Assert.EndsWith("<|im_end|>\n<|im_start|>assistant\n", text, StringComparison.Ordinal);
            Assert.DoesNotContain('\uFFFD', text);
            kept.Add($"{text.Contains("first", StringComparison.Ordinal)} {text.Contains("second", StringComparison.Ordinal)} "
                + $"{text.Contains("0123456789", StringComparison.Ordinal)}");
            // Whatever is left of the last message is its end.
            string last = text[(text.LastIndexOf("<|im_start|>user\n", StringComparison.Ordinal) + "<|im_start|>user\n".Length)..text.LastIndexOf("<|im_end|>",
                StringComparison.Ordinal)];
            Assert.EndsWith(last, whole.Messages[^1].Content!, StringComparison.Ordinal);
        }

        Assert.Equal(["True True True", "False True True", "False False True", "False False False"], kept);
    }

    [Fact]
    public void What_fits_is_left_alone_and_what_cannot_fit_is_longer_than_was_asked_for()
    {
        Conversation whole = new([ChatMessage.System("Be brief."), ChatMessage.User("question")]);
        Assert.Equal(_formatter.Prompt(whole), PromptCut.Fit(whole, _formatter.Prompt, Length(whole)));
        Assert.Equal(Length(whole with { Messages = [whole.Messages[0], ChatMessage.User("")] }), PromptCut.Fit(whole, _formatter.Prompt, 3).Length);
    }

    [Fact]
    public void A_tools_answer_is_cut_too_and_its_question_stays()
    {
        Conversation whole = new([ChatMessage.User("old"), ChatMessage.Assistant("x"), ChatMessage.User("weather?"), ChatMessage.Assistant("call"),
            ChatMessage.Tool("0123456789 rain")]);
        string text = _tokenizer.Decode(PromptCut.Fit(whole, _formatter.Prompt, Length(whole with { Messages = [.. whole.Messages.Skip(2)] }) - 4));
        Assert.DoesNotContain("old", text, StringComparison.Ordinal);
        Assert.Contains("weather?", text, StringComparison.Ordinal);
        Assert.DoesNotContain("0123456789", text, StringComparison.Ordinal);
        Assert.Contains("rain<|im_end|>", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Two_thousand_turns_need_a_dozen_prompts_and_none_after_the_token()
    {
        ChatMessage[] turns = [.. Enumerable.Range(0, 2000).SelectMany(i => new[] { ChatMessage.User($"q{i}"), ChatMessage.Assistant($"a{i}") })];
        Conversation whole = new([ChatMessage.System("Be brief."), .. turns, ChatMessage.User("end")]);
        int prompts = 0;
        using CancellationTokenSource source = new();
        int[] Counted(Conversation some)
        {
            prompts++;
            return _formatter.Prompt(some);
        }

        string text = _tokenizer.Decode(PromptCut.Fit(whole, Counted, 200, source.Token));
        Assert.InRange(prompts, 3, 14);
        // The longest that fits: one more turn would not.
        int first = int.Parse(text.Split("user\nq")[1].Split('<')[0], System.Globalization.CultureInfo.InvariantCulture);
        Assert.True(Length(whole with { Messages = [whole.Messages[0], .. turns[(2 * first)..], ChatMessage.User("end")] }) <= 200);
        Assert.True(Length(whole with { Messages = [whole.Messages[0], .. turns[(2 * (first - 1))..], ChatMessage.User("end")] }) > 200);

        prompts = 0;
        Assert.Throws<OperationCanceledException>(() => PromptCut.Fit(whole, some => { source.Cancel(); return Counted(some); }, 200, source.Token));
        Assert.Equal(1, prompts);
    }

    private int Length(Conversation conversation) => _formatter.Prompt(conversation).Length;
}
