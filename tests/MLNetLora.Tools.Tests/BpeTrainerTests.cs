using System.Text;
using MLNetLora.Tools.NanoQwen.Tokenization;

namespace MLNetLora.Tools.Tests;

public sealed class BpeTrainerTests
{
    /// <summary>The example of Sennrich et al. 2016, figure 1, without its end-of-word mark: low ×5, lower ×2, newest ×6, widest ×3.</summary>
    [Fact]
    public void Learns_the_merges_of_the_published_example()
    {
        BpeTrainer trainer = new();
        trainer.Add("low", 5);
        trainer.Add("lower", 2);
        trainer.Add("newest", 6);
        trainer.Add("widest", 3);

        Vocabulary vocabulary = trainer.Train(256 + 5);

        // e+s and s+t both occur 9 times, l+o and o+w 7 times, n+e, e+w and w+est 6 times: the smaller ids win.
        Assert.Equal(["es", "est", "lo", "low", "ew"], vocabulary.Tokens.Skip(256).Select(Encoding.UTF8.GetString));
    }

    [Fact]
    public void Overlapping_repeats_merge_from_the_left()
    {
        BpeTrainer trainer = new();
        trainer.Add("aaaaa", 3);
        Vocabulary vocabulary = trainer.Train(300);
        // aa aa a: both remaining pairs occur three times, and "a" has the smaller id.
        Assert.Equal(["aa", "aaa", "aaaaa"], vocabulary.Tokens.Skip(256).Select(Encoding.UTF8.GetString));
        Assert.Equal([258], new ByteLevelBpe(vocabulary).Encode("aaaaa"));
    }

    [Fact]
    public void Stops_when_no_pair_occurs_twice()
    {
        BpeTrainer trainer = new();
        trainer.Add("ab cd");
        Assert.Equal(256, trainer.Train(1000).Tokens.Count);
    }

    [Theory]
    [InlineData("中", true)]
    [InlineData("中文", true)]
    [InlineData(" the", true)]
    public void Whole_characters_may_be_tokens(string text, bool expected) =>
        Assert.Equal(expected, BpeTrainer.IsWholeOrPrefix(Encoding.UTF8.GetBytes(text)));

    [Fact]
    public void A_token_may_begin_one_character_but_not_straddle_two()
    {
        byte[] two = Encoding.UTF8.GetBytes("中文");
        Assert.True(BpeTrainer.IsWholeOrPrefix(two.AsSpan(0, 2)));
        Assert.False(BpeTrainer.IsWholeOrPrefix(two.AsSpan(0, 4)));
        Assert.False(BpeTrainer.IsWholeOrPrefix(two.AsSpan(1, 2)));
        Assert.False(BpeTrainer.IsWholeOrPrefix(two.AsSpan(2, 4)));
    }

    [Fact]
    public void The_byte_table_is_that_of_gpt2()
    {
        Assert.Equal("ĠtheĊ", ByteAlphabet.ToText(" the\n"u8));
        Assert.Equal("ä¸Ń", ByteAlphabet.ToText("中"u8));
        Assert.Equal((byte)'!', ByteAlphabet.IdOrder[0]);
        Assert.Equal(0xAD, ByteAlphabet.IdOrder[255]);
        byte[] all = [.. Enumerable.Range(0, 256).Select(value => (byte)value)];
        Assert.Equal(all, ByteAlphabet.ToBytes(ByteAlphabet.ToText(all)));
        Assert.Contains("stands for no byte", Assert.Throws<TokenizerException>(() => ByteAlphabet.ToBytes("▁the")).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("It's 2024, 你好！\n\n  ok", new[] { "It", "'s", " ", "2", "0", "2", "4", ",", " 你好", "！\n\n", " ", " ok" })]
    [InlineData("a  b\t\n", new[] { "a", " ", " b", "\t\n" })]
    public void Splits_as_qwen2_does(string text, string[] pieces) => Assert.Equal(pieces, PreTokenizer.Split(text));

    [Fact]
    public void Text_is_composed_before_it_is_split() => Assert.Equal(["é"], PreTokenizer.Split("e\u0301"));
}
