using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Texts and messages that are gone on with, on the nano checkpoint.</summary>
public sealed class CompletionTests : IDisposable
{
    private readonly TextGenerator _generator = new(Checkpoint.Open(Repository.Nano), threads: 1);

    public void Dispose() => _generator.Dispose();

    [Fact]
    public async Task A_rendered_prompt_is_continued_as_the_question_is_answered()
    {
        GenerationOptions options = new() { MaximumNewTokens = 40 };
        Conversation asked = new([ChatMessage.User("公司在哪里？")]);
        GeneratedText answer = _generator.Reply([asked], options)[0];
        int[] ids = new ConversationFormatter(_generator.Tokenizer, ChatTemplate.Load(Repository.Nano)).Prompt(asked);
        string rendered = _generator.Tokenizer.Decode(ids, skipSpecialTokens: false);

        Assert.Equal(answer with { Text = "" }, _generator.Complete([rendered], options)[0] with { Text = "" });
        GeneratedText[] streamed = [await Whole(_generator.CompleteAsync(rendered, options)), await Whole(_generator.CompleteAsync(ids, options))];
        Assert.All(streamed, text => Assert.Equal((answer.Text, answer.PromptTokens, answer.NewTokens), (text.Text, text.PromptTokens, text.NewTokens)));
    }

    [Fact]
    public void Prompts_that_cannot_be_continued_fail_alone()
    {
        GenerationOptions options = new() { MaximumNewTokens = 4 };
        string tooLong = string.Concat(Enumerable.Repeat("and on and ", 400));
        IReadOnlyList<GeneratedText> answers = _generator.Complete(["Say", "", tooLong], options);
        Assert.True(answers[0] is { Error: null, NewTokens: > 0 });
        Assert.StartsWith("Prompt 2: it has no tokens", Assert.IsType<PromptException>(answers[1].Error).Message, StringComparison.Ordinal);
        Assert.StartsWith("Prompt 3: the prompt has ", Assert.IsType<PromptException>(answers[2].Error).Message, StringComparison.Ordinal);
        options.WhenPromptTooLong = PromptOverflow.TruncateLeft;
        Assert.Equal(508, _generator.Complete([tooLong], options)[0].PromptTokens);
    }

    [Fact]
    public async Task Tokens_that_the_model_has_not_are_named()
    {
        foreach (int id in (int[])[-1, 5632])
        {
            string message = (await Assert.ThrowsAsync<PromptException>(() => Whole(_generator.CompleteAsync([1, id], new())))).Message;
            Assert.StartsWith($"It has token {id}, but the checkpoint's are those from 0 to 5631", message, StringComparison.Ordinal);
        }

        Assert.Throws<ArgumentNullException>(() => _generator.CompleteAsync((string)null!, new()));
        Assert.Throws<ArgumentNullException>(() => _generator.CompleteAsync("a", null!));
        Assert.Throws<OptionException>(() => _generator.CompleteAsync("a", new() { MaximumNewTokens = 0 }));
    }

    [Fact]
    public async Task A_message_of_the_assistant_is_gone_on_with()
    {
        GenerationOptions options = new() { MaximumNewTokens = 40, TopLogprobs = 0, ContinueFinalMessage = true };
        GeneratedText whole = _generator.Reply([new([ChatMessage.User("公司在哪里？")])], options)[0];
        string begun = _generator.Tokenizer.Decode([.. whole.Tokens!.Take(4).Select(token => token.Id)], skipSpecialTokens: true);
        Conversation conversation = new([ChatMessage.User("公司在哪里？"), ChatMessage.Assistant(begun)]);

        GeneratedText rest = await Whole(_generator.GenerateAsync(conversation, options));

        Assert.Equal(whole.Text, begun + rest.Text);
        Assert.Equal(whole.NewTokens - 4, rest.NewTokens);
        options.ContinueFinalMessage = false;
        GeneratedText refused = _generator.Reply([conversation], options)[0];
        Assert.StartsWith("Row 1: the conversation ends with the assistant's message", Assert.IsType<PromptException>(refused.Error).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void Thinking_that_has_begun_is_gone_on_with_as_thinking()
    {
        Dictionary<int, float> bias = new() { [_generator.Tokenizer.EncodeToIds("\n")[0]] = 100 };
        GenerationOptions options = new() { MaximumNewTokens = 2, ContinueFinalMessage = true, LogitBias = bias, RepetitionPenalty = 1, Temperature = 0 };
        GeneratedText answer = _generator.Reply([new([ChatMessage.User("q"), ChatMessage.Assistant("<think>\nFirst")])], options)[0];
        Assert.Equal("", answer.Text); // all that came is thinking, and line breaks at its end are no part of it
        options.LogitBias = new Dictionary<int, float> { [_generator.Tokenizer.EncodeToIds(",")[0]] = 100 };
        Assert.Equal(",,", _generator.Reply([new([ChatMessage.User("q"), ChatMessage.Assistant("<think>\nFirst")])], options)[0].Thinking);
    }

    private static async Task<GeneratedText> Whole(IAsyncEnumerable<GeneratedChunk> pieces)
    {
        GeneratedText? answer = null;
        string text = "";
        await foreach (GeneratedChunk piece in pieces)
        {
            answer = piece.Answer;
            text += piece.IsThinking ? "" : piece.Text;
        }

        Assert.Equal(answer!.Text, text);
        return answer;
    }
}
