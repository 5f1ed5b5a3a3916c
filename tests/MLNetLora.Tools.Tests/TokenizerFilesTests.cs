using System.Text.Json;
using MLNetLora.Tools.NanoQwen.Corpus;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.Tests;

public sealed class TokenizerFilesTests : IDisposable
{
    private static readonly string[] s_texts =
    [
        "第3号仓库在城市的东边。",
        "Warehouse 12 is on the western side of the city.",
        "从未见过的字：龘，以及表情 👍🏽。",
        "  two  spaces,\ttab\r\n\r\nlines\n",
        "<|im_end|> in a text is text",
        "",
    ];

    private readonly TemporaryFolder _data = new();
    private readonly TemporaryFolder _out = new();
    private readonly Vocabulary _vocabulary;

    public TokenizerFilesTests() => _vocabulary = SmallWorld.Train(SmallWorld.Sources(_data), 500);

    public void Dispose()
    {
        _data.Dispose();
        _out.Dispose();
    }

    [Fact]
    public void What_is_encoded_decodes_to_the_same_text()
    {
        ByteLevelBpe codec = new(_vocabulary);
        foreach (string text in s_texts)
        {
            Assert.Equal(text, codec.Decode(codec.Encode(text)));
        }

        Assert.True(codec.Encode(s_texts[0]).Count < 12);
    }

    [Fact]
    public void Control_tokens_follow_the_ranks_and_text_never_becomes_one()
    {
        ByteLevelBpe codec = new(_vocabulary);
        Assert.Equal(_vocabulary.Tokens.Count, codec.Special("<|endoftext|>"));
        Assert.Equal(_vocabulary.Size - 1, codec.Special("<|im_end|>"));
        Assert.All(codec.Encode("<|im_end|><|endoftext|>"), id => Assert.True(id < _vocabulary.Tokens.Count));
        Assert.Contains("<think>", Assert.Throws<TokenizerException>(() => codec.Special("<think>")).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Files_read_again_encode_alike()
    {
        TokenizerFiles.Write(_vocabulary, _out.Path);
        Vocabulary read = TokenizerFiles.Read(_out.Path);
        Assert.Equal(_vocabulary.Merges, read.Merges);
        Assert.Equal(_vocabulary.Tokens, read.Tokens);
        foreach (string text in s_texts)
        {
            Assert.Equal(new ByteLevelBpe(_vocabulary).Encode(text), new ByteLevelBpe(read).Encode(text));
        }
    }

    [Fact]
    public void The_same_data_give_the_same_files()
    {
        using TemporaryFolder again = new();
        TokenizerFiles.Write(_vocabulary, _out.Path);
        TokenizerFiles.Write(SmallWorld.Train(SmallWorld.Sources(_data), 500), again.Path);
        string[] files = [.. Directory.GetFiles(_out.Path).Select(path => Path.GetFileName(path)).Order(StringComparer.Ordinal)];
        Assert.Equal(["merges.txt", "tokenizer.json", "tokenizer_config.json", "vocab.json"], files);
        foreach (string file in files)
        {
            Assert.Equal(File.ReadAllBytes(_out.At(file)), File.ReadAllBytes(again.At(file)));
        }
    }

    [Fact]
    public void Tokenizer_json_carries_the_same_vocabulary_in_the_published_layout()
    {
        TokenizerFiles.Write(_vocabulary, _out.Path);
        using JsonDocument tokenizer = JsonDocument.Parse(File.ReadAllBytes(_out.At("tokenizer.json")));
        using JsonDocument vocabulary = JsonDocument.Parse(File.ReadAllBytes(_out.At("vocab.json")));
        JsonElement model = tokenizer.RootElement.GetProperty("model");
        Assert.Equal(vocabulary.RootElement.GetRawText().Trim(), model.GetProperty("vocab").GetRawText().Trim());
        Assert.Equal(
            File.ReadLines(_out.At("merges.txt")).Skip(1),
            model.GetProperty("merges").EnumerateArray().Select(pair => $"{pair[0].GetString()} {pair[1].GetString()}"));
        JsonElement split = tokenizer.RootElement.GetProperty("pre_tokenizer").GetProperty("pretokenizers")[0];
        Assert.Equal(PreTokenizer.Pattern, split.GetProperty("pattern").GetProperty("Regex").GetString());
        Assert.Equal("NFC", tokenizer.RootElement.GetProperty("normalizer").GetProperty("type").GetString());
        Assert.Equal(
            ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
            tokenizer.RootElement.GetProperty("added_tokens").EnumerateArray().Select(token => token.GetProperty("content").GetString()));

        using JsonDocument config = JsonDocument.Parse(File.ReadAllBytes(_out.At("tokenizer_config.json")));
        Assert.Equal("Qwen2Tokenizer", config.RootElement.GetProperty("tokenizer_class").GetString());
        Assert.Contains("add_generation_prompt", config.RootElement.GetProperty("chat_template").GetString(), StringComparison.Ordinal);
        Assert.Equal("<|im_end|>",
            config.RootElement.GetProperty("added_tokens_decoder").GetProperty($"{_vocabulary.Size - 1}").GetProperty("content").GetString());
    }
}
