using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class PreflightTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();
    private readonly QwenTokenizer _tokenizer;
    private readonly ConversationFormatter _formatter;

    public PreflightTests()
    {
        _tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);
        _formatter = new ConversationFormatter(_tokenizer, ChatTemplate.Load(_tiny.VocabularyFolder));
    }

    public void Dispose() => _tiny.Dispose();

    [Fact]
    public void Rows_are_counted_and_shown_with_what_is_learned()
    {
        Preflight preflight = new(_tokenizer);
        TrainingRow[] rows = [.. preflight.Watch(Rows(1000, "hello", "the quick brown fox", "x"))];
        Assert.Equal((3, rows.Sum(row => row.InputIds.Length), rows.Sum(row => row.LabelTokens)), (preflight.Rows, preflight.Tokens, preflight.LabelTokens));
        Assert.Equal("<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n❮hello<|im_end|>❯", preflight.Samples[0]);
        Assert.Equal(2, preflight.Samples.Count);
        Assert.Equal(3, preflight.LengthHistogram.Values.Sum());
        Assert.All(rows, row => Assert.Contains(preflight.LengthHistogram.Keys, key => key >= row.InputIds.Length && key / 2 < row.InputIds.Length));
        Assert.True(preflight.IsEndLearned);
        Assert.Empty(preflight.Warnings());
        preflight.Check();
        Assert.Contains("3 rows, ", preflight.ToString(), StringComparison.Ordinal);
        using StringWriter colored = new();
        preflight.Write(colored, color: true);
        Assert.Contains("\e[32mhello<|im_end|>\e[0m", colored.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void Rows_that_are_cut_off_are_named()
    {
        Preflight preflight = new(_tokenizer);
        int prompt = _formatter.Prompt(new Conversation([ChatMessage.User("q")])).Length;
        foreach (TrainingRow _ in preflight.Watch(Rows(prompt + 1, "", "the quick brown fox jumps", "the lazy dog")))
        {
        }
        Assert.Equal([2, 3], preflight.TruncatedRows);
        Assert.True(preflight.IsEndLearned);
        Assert.Contains("2 of 3 rows were cut off", preflight.Warnings()[0], StringComparison.Ordinal);
        Assert.Contains("rows 2, 3.", preflight.Warnings()[0], StringComparison.Ordinal);

        Preflight nothing = new(_tokenizer);
        Assert.Contains("no rows", Assert.Throws<DatasetException>(nothing.Check).Message, StringComparison.Ordinal);
        nothing.Add(Rows(prompt, "hello").Single(), 7);
        Assert.Equal([7], nothing.UnlearnedRows);
        Assert.False(nothing.IsEndLearned);
        Assert.Equal(3, nothing.Warnings().Count);
        Assert.Contains("cut off before their answer begins", Assert.Throws<DatasetException>(nothing.Check).Message, StringComparison.Ordinal);
    }

    private IEnumerable<TokenizedRow> Rows(int length, params string[] answers) =>
        answers.SelectMany(answer => _formatter.TokenizeRows(new Conversation([ChatMessage.User("q"), ChatMessage.Assistant(answer)]), LabelScope.Answer, length));
}
