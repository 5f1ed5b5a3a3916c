using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>What ends an answer and what keeps it going, on the nano checkpoint, whose greedy answers end by themselves.</summary>
public sealed class AnswerEndTests : IDisposable
{
    private readonly TextGenerator _generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
    private readonly QwenTokenizer _tokenizer = QwenTokenizer.Load(Repository.Nano);

    public void Dispose() => _generator.Dispose();

    [Fact]
    public void A_stop_token_ends_it_and_is_no_part_of_its_text()
    {
        int[] ids = Ids(Answer(new()));
        int stop = ids[3];
        GeneratedText answer = Answer(new() { StopTokenIds = [stop] });
        int at = Array.IndexOf(ids, stop);
        Assert.Equal((FinishReason.Stop, at + 1), (answer.Reason, answer.NewTokens));
        Assert.Equal(_tokenizer.Decode(ids.AsSpan(0, at), skipSpecialTokens: true), answer.Text);
        Assert.Equal(stop, answer.Tokens![^1].Id);
    }

    [Fact]
    public void The_end_of_text_can_be_ignored_and_stop_tokens_cannot()
    {
        GeneratedText ended = Answer(new());
        Assert.Equal(FinishReason.Stop, ended.Reason);
        GeneratedText answer = Answer(new() { IgnoreEndOfText = true, MaximumNewTokens = 60 });
        Assert.Equal((FinishReason.Length, 60), (answer.Reason, answer.NewTokens));
        Assert.Equal(Ids(ended), Ids(answer)[..ended.NewTokens]);
        Assert.StartsWith(ended.Text, answer.Text, StringComparison.Ordinal);
        Assert.DoesNotContain("<|im_end|>", answer.Text, StringComparison.Ordinal);

        GeneratedText stopped = Answer(new() { IgnoreEndOfText = true, MaximumNewTokens = 60, StopTokenIds = [_tokenizer.ImEndId!.Value] });
        Assert.Equal((FinishReason.Stop, ended.NewTokens), (stopped.Reason, stopped.NewTokens));
    }

    [Fact]
    public void Fewer_tokens_than_the_minimum_are_not_an_answer()
    {
        GeneratedText ended = Answer(new());
        GeneratedText answer = Answer(new() { MinimumNewTokens = ended.NewTokens + 5, MaximumNewTokens = 60 });
        Assert.True(answer.NewTokens > ended.NewTokens + 5 || answer.Reason == FinishReason.Length);
        Assert.Equal(Ids(ended)[..^1], Ids(answer)[..(ended.NewTokens - 1)]);
        Assert.DoesNotContain(_tokenizer.ImEndId!.Value, Ids(answer)[..(ended.NewTokens + 5)]);
        Assert.DoesNotContain(_tokenizer.EndOfTextId!.Value, Ids(answer)[..(ended.NewTokens + 5)]);

        int stop = Ids(ended)[2];
        GeneratedText stopped = Answer(new() { MinimumNewTokens = 4, StopTokenIds = [stop] });
        Assert.DoesNotContain(stop, Ids(stopped)[..4]);
        Assert.Equal(ended.Text, Answer(new() { MinimumNewTokens = ended.NewTokens - 1 }).Text);
    }

    [Fact]
    public void A_stop_string_among_the_fewest_tokens_does_not_end_it()
    {
        GeneratedText whole = Answer(new());
        string stop = whole.Text[..1];
        Assert.Equal("", Answer(new() { StopStrings = [stop] }).Text);
        Assert.StartsWith(stop, Answer(new() { StopStrings = [stop], MinimumNewTokens = 3 }).Text, StringComparison.Ordinal);
    }

    [Fact]
    public void Several_seeds_give_several_answers_and_each_of_them_the_same_again()
    {
        string[] Answers() => [.. Enumerable.Range(7, 6).Select(seed =>
            Answer(new() { Temperature = 2, TopK = 0, TopP = 1, Seed = seed, MaximumNewTokens = 12 }).Text)];
        string[] answers = Answers();
        Assert.Equal(6, answers.Distinct().Count());
        Assert.Equal(answers, Answers());
    }

    private static int[] Ids(GeneratedText answer) => [.. answer.Tokens!.Select(token => token.Id)];

    private GeneratedText Answer(GenerationOptions options)
    {
        options.TopLogprobs = 0;
        return _generator.Generate([new InstructionRow("公司在哪里？")], options)[0];
    }
}
