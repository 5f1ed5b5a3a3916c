using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

public sealed class ParallelTokenizationTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();
    private readonly QwenTokenizer _tokenizer;
    private readonly ConversationFormatter _formatter;

    public ParallelTokenizationTests()
    {
        _tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);
        _formatter = new ConversationFormatter(_tokenizer, ChatTemplate.Load(_tiny.VocabularyFolder));
    }

    public void Dispose() => _tiny.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    public void Many_texts_have_the_ids_and_the_order_of_one_after_the_other(int threads)
    {
        Random random = new(threads);
        string[] texts = [.. Enumerable.Range(0, 3000).Select(i => Fuzz.Text(random, 1 + (i % 300)))];
        Assert.Equal(texts.Select(_tokenizer.Encode), _tokenizer.EncodeMany(texts, threads));
        Assert.Empty(_tokenizer.EncodeMany([], threads));
    }

    [Fact]
    public void A_text_that_is_null_is_named_by_its_index()
    {
        Assert.Contains("index 1", Assert.Throws<ArgumentException>(() => _tokenizer.EncodeMany(["a", null!])).Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentOutOfRangeException>(() => _tokenizer.EncodeMany(["a"], -1));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    public void Many_rows_are_those_of_one_after_the_other(int threads)
    {
        Random random = new(threads);
        DatasetRow[] rows = [.. Enumerable.Range(0, 1000).Select(i => Row(i, random))];
        TokenizedRow[] expected = [.. rows.SelectMany(row => _formatter.TokenizeRows(row, LabelScope.AllAssistantTurns, 64))];
        TokenizedRow[] actual = [.. _formatter.TokenizeRows(rows, LabelScope.AllAssistantTurns, 64, threads)];
        Assert.Equal(expected.Select(row => row.Report), actual.Select(row => row.Report));
        Assert.Equal(expected.Select(row => row.Row.InputIds), actual.Select(row => row.Row.InputIds));
        Assert.Equal(expected.Select(row => row.Row.Labels), actual.Select(row => row.Row.Labels));
    }

    [Fact]
    public void A_row_that_fails_does_so_in_its_place()
    {
        int last = -1;
        // The row with the number 300 cannot be converted.
        Assert.Throws<ArgumentException>(() =>
        {
            foreach (int i in ParallelRows.Convert(Source(), i => i == 300 ? throw new ArgumentException("300") : i, 2))
            {
                Assert.Equal(last + 1, last = i);
            }
        });
        Assert.Equal(299, last);
        // The file cannot be read behind the row with the number 599.
        last = -1;
        Assert.Throws<DatasetException>(() =>
        {
            foreach (int i in ParallelRows.Convert(Source(), i => i, 2))
            {
                Assert.Equal(last + 1, last = i);
            }
        });
        Assert.Equal(599, last);

        static IEnumerable<int> Source()
        {
            for (int i = 0; i < 600; i++)
            {
                yield return i;
            }

            throw new DatasetException("the file ends here");
        }
    }

    [Fact]
    public void Rows_are_read_while_they_are_enumerated()
    {
        int read = 0;
        Assert.Equal(0, ParallelRows.Convert(Enumerable.Range(0, 100_000).Select(i => read = i), i => i, 0).First());
        Assert.InRange(read, 0, 1000);
    }

    private static DatasetRow Row(int number, Random random) => number % 5 == 0
        ? new DatasetRow("f", number, number, null, Fuzz.Text(random, 400))
        : new DatasetRow("f", number, number, new Conversation([ChatMessage.User(Fuzz.Text(random)), ChatMessage.Assistant(Fuzz.Text(random)),
            ChatMessage.User("q"), ChatMessage.Assistant(Fuzz.Text(random))]), null);
}
