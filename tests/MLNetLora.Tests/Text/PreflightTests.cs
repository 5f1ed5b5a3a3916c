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
        Assert.Contains("2 of 3 training rows were cut off", preflight.Warnings("training")[0], StringComparison.Ordinal);

        Preflight nothing = new(_tokenizer);
        Assert.Contains("no rows", Assert.Throws<DatasetException>(() => nothing.Check()).Message, StringComparison.Ordinal);
        nothing.Add(Rows(prompt, "hello").Single(), 7);
        Assert.Equal([7], nothing.UnlearnedRows);
        Assert.False(nothing.IsEndLearned);
        Assert.Equal(3, nothing.Warnings().Count);
        Assert.Contains(
            "row 7 were cut off before the answer begins",
            Assert.Throws<DatasetException>(() => nothing.Check()).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void A_row_that_becomes_several_is_one_row()
    {
        Preflight preflight = new(_tokenizer);
        TokenizedRow[] parts = [.. PlainText.Tokenize(_tokenizer, string.Concat(Enumerable.Repeat("the quick brown fox ", 50)), 16)];
        preflight.Add(parts, 1);
        preflight.Add(Rows(1000, "hello").ToArray(), 2);
        Assert.Equal((2, parts.Length + 1), (preflight.Rows, preflight.Sequences));
        Assert.Equal(parts.Length + 1, preflight.LengthHistogram.Values.Sum());
        Assert.Equal(2, preflight.EndLearnedCount);
        Assert.Contains($"2 rows as {parts.Length + 1} training rows, ", preflight.ToString(), StringComparison.Ordinal);
        Assert.Empty(preflight.Warnings());

        // Two answers that are cut off are one row that lost something.
        TokenizedRow cut = new(new TrainingRow([1, 2], [-100, -100]), new TokenizationReport(9, 2, 7, 0));
        preflight.Add([cut, cut], 3);
        Assert.Equal((3, 1, 1, 14), (preflight.Rows, preflight.TruncatedCount, preflight.UnlearnedCount, preflight.TruncatedTokens));
        Assert.Contains("1 of 3 rows were cut off", preflight.Warnings()[0], StringComparison.Ordinal);
        Assert.Contains("row 3 loses most, 14 of its 18 tokens", preflight.Warnings()[0], StringComparison.Ordinal);
    }

    [Fact]
    public void The_rows_themselves_are_shown_only_when_asked_for()
    {
        Preflight preflight = new(_tokenizer);
        preflight.Add(Rows(1000, "hello").Single(), 1);
        Assert.DoesNotContain("hello", preflight.ToString(), StringComparison.Ordinal);
        using StringWriter writer = new();
        preflight.Write(writer);
        Assert.Contains("❮hello<|im_end|>❯", writer.ToString(), StringComparison.Ordinal);
    }

    private IEnumerable<TokenizedRow> Rows(int length, params string[] answers) =>
        answers.SelectMany(answer => _formatter.TokenizeRows(
            new Conversation([ChatMessage.User("q"), ChatMessage.Assistant(answer)]),
            LabelScope.Answer,
            length));
}
