using MLNetLora.Text;
using MLNetLora.Tools.NanoQwen.Corpus;
using MLNetLora.Tools.NanoQwen.Tokenization;
using ByteLevelBpe = MLNetLora.Tools.NanoQwen.Tokenization.ByteLevelBpe;

namespace MLNetLora.Tools.Tests;

public sealed class TrainingCorpusTests : IDisposable
{
    private readonly TemporaryFolder _data = new();
    private readonly SourceFiles _sources;
    private readonly ByteLevelBpe _codec;
    private readonly TrainingCorpus _corpus;

    public TrainingCorpusTests()
    {
        _sources = SmallWorld.Sources(_data);
        _codec = new ByteLevelBpe(SmallWorld.Train(_sources, 500));
        _corpus = TrainingCorpus.Build(_sources, _codec, SmallWorld.Options);
    }

    public void Dispose() => _data.Dispose();

    [Fact]
    public void Names_are_filled_in_and_the_input_follows_the_instruction()
    {
        Assert.Contains(_sources.Exchanges, exchange => exchange.Answer == "我是 Nano，由 MLNetLora 开发。");
        Assert.Contains(_sources.Exchanges, exchange => exchange.Prompt == "第4号仓库在哪里？\n请用一句话回答。");
        Assert.DoesNotContain(_sources.Exchanges, exchange => exchange.Answer.Contains("{{", StringComparison.Ordinal));
    }

    [Fact]
    public void A_missing_file_is_named()
    {
        File.Delete(_data.At("identity.json"));
        Assert.Contains("identity.json", Assert.Throws<DatasetException>(() => SourceFiles.Read(_data.Path, "a", "b")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Broken_json_is_reported_with_file_and_line()
    {
        _data.Write("identity.json", "[\n{\"instruction\": \"a\",\n]");
        string message = Assert.Throws<DatasetException>(() => SourceFiles.Read(_data.Path, "a", "b")).Message;
        Assert.Contains("identity.json, line 3", message, StringComparison.Ordinal);
    }

    [Fact]
    public void The_same_seed_gives_the_same_rows_and_another_one_another_order()
    {
        TrainingCorpus again = TrainingCorpus.Build(_sources, _codec, SmallWorld.Options);
        TrainingCorpus other = TrainingCorpus.Build(_sources, _codec, SmallWorld.Options with { Seed = 43 });
        Assert.Equal(_corpus.Training.Select(row => row.Answer), again.Training.Select(row => row.Answer));
        Assert.Equal(_corpus.Validation.Select(row => row.Answer), again.Validation.Select(row => row.Answer));
        Assert.NotEqual(_corpus.Training.Select(row => row.Answer), other.Training.Select(row => row.Answer));
        Assert.Equal(_corpus.Training.Select(row => row.Answer).Order(StringComparer.Ordinal),
            _corpus.Epoch(7).Select(row => row.Answer).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Held_out_rows_are_never_trained_on()
    {
        HashSet<string> trained = [.. _corpus.Training.Select(row => string.Concat(row.Prompt.Select(part => part.Text)) + row.Answer)];
        Assert.NotEmpty(_corpus.Validation);
        Assert.DoesNotContain(_corpus.Validation, row => trained.Contains(string.Concat(row.Prompt.Select(part => part.Text)) + row.Answer));
        Assert.DoesNotContain(_corpus.Validation, row => row.Source == SourceFiles.Identity);
    }

    [Fact]
    public void Every_row_fits_and_long_answers_become_plain_text()
    {
        foreach (CorpusRow row in _corpus.Training.Concat(_corpus.Validation))
        {
            Assert.InRange(RowEncoder.Encode(row, _codec, labelPrompt: true).InputIds.Length, 2, SmallWorld.Options.SequenceLength);
        }

        Assert.Contains(_corpus.Training.Concat(_corpus.Validation),
            row => row.Source == "alpaca_en_demo (text)" && row.Prompt.Count == 0 && row.Answer.EndsWith("It has a blue door.", StringComparison.Ordinal));
    }

    [Fact]
    public void Chinese_and_identity_rows_are_repeated()
    {
        Assert.All(_corpus.Training.Where(row => row.Source == "alpaca_zh_demo").GroupBy(row => row.Answer), group => Assert.Equal(2, group.Count()));
        Assert.Equal(3, _corpus.Training.Count(row => row.Answer == "I am Nano by MLNetLora."));
        Assert.Equal(Language.Chinese, CorpusRow.LanguageOf("Qwen 是一个大语言模型。"));
        Assert.Equal(Language.English, CorpusRow.LanguageOf("The character 水 means water in Chinese."));
    }

    [Fact]
    public void A_conversation_is_chatml_with_the_loss_on_answer_and_end()
    {
        CorpusRow row = CorpusRow.Conversation(new Exchange("test", "你是谁？", "我是 Nano。"));
        TrainingRow encoded = RowEncoder.Encode(row, _codec, labelPrompt: false);
        Assert.Equal("<|im_start|>user\n你是谁？<|im_end|>\n<|im_start|>assistant\n我是 Nano。<|im_end|>", _codec.Decode(encoded.InputIds));
        int[] learned = [.. encoded.Labels.Where(label => label != TrainingRow.Ignore)];
        Assert.Equal("我是 Nano。<|im_end|>", _codec.Decode(learned));
        Assert.Equal(learned, encoded.InputIds[^learned.Length..]);

        TrainingRow everything = RowEncoder.Encode(row, _codec, labelPrompt: true);
        Assert.Equal(TrainingRow.Ignore, everything.Labels[0]);
        Assert.Equal(everything.InputIds[1..], everything.Labels[1..]);
    }

    [Fact]
    public void Packing_keeps_every_row_whole_and_learns_nothing_across_the_seam()
    {
        TrainingRow[] rows = [.. _corpus.Training.Select(row => RowEncoder.Encode(row, _codec, labelPrompt: true))];
        TrainingRow[] windows = [.. RowPacker.Pack(rows, 64)];
        Assert.True(windows.Length < rows.Length);
        Assert.All(windows, window => Assert.InRange(window.InputIds.Length, 1, 64));
        Assert.Equal(rows.Sum(row => row.InputIds.Length), windows.Sum(window => window.InputIds.Length));
        Assert.Equal(rows.Length, windows.Sum(window => window.Labels.Count(label => label == TrainingRow.Ignore)));
        Assert.Throws<OptionException>(() => RowPacker.Pack([new TrainingRow(new int[65], new int[65])], 64).ToArray());
    }

    [Fact]
    public void Chunks_end_with_sentences_and_lose_none()
    {
        const string text = "It is long.It is wide. 他说：“你好。”然后走了！ Last one";
        string[] chunks = [.. TextChunks.Split(text, 20, part => part.Length)];
        Assert.Equal(["It is long.", "It is wide. 他说：“你好。”", "然后走了！ Last one"], chunks);
    }
}
