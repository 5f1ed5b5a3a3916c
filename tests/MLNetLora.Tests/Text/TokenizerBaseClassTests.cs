using System.Buffers;
using System.Runtime.CompilerServices;
using System.Text;
using Microsoft.ML.Tokenizers;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>The tokenizer as code sees it that knows Microsoft.ML.Tokenizers alone.</summary>
public sealed class TokenizerBaseClassTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();
    private readonly Tokenizer _tokenizer;

    public TokenizerBaseClassTests() => _tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);

    public void Dispose() => _tiny.Dispose();

    /// <summary>Everything that holds for any text: ids, counts, offsets, cuts and decoding agree.</summary>
    internal static void Check(Tokenizer tokenizer, string text)
    {
        IReadOnlyList<int> ids = tokenizer.EncodeToIds(text);
        IReadOnlyList<EncodedToken> tokens = tokenizer.EncodeToTokens(text, out string? normalized);
        string read = normalized ?? text;
        Assert.Equal(ids, tokenizer.EncodeToIds(text.AsSpan()));
        Assert.Equal(ids, tokens.Select(token => token.Id));
        Assert.Equal(ids.Count, tokenizer.CountTokens(text));
        Assert.Equal(read, tokenizer.Decode(ids));
        Assert.Equal(read, Rebuilt(read, tokens));
        Assert.All(tokens, token => Assert.True(((QwenTokenizer)tokenizer).TryGetId(token.Value, out int id) && id == token.Id, token.Value));
        CheckCuts(tokenizer, text, ids, read);
    }

    [Fact]
    public void Ids_counts_offsets_cuts_and_text_agree_for_any_text()
    {
        Tokenizer[] tokenizers = [_tokenizer, QwenTokenizer.Load(_tiny.JsonFolder(pairs: true)), QwenTokenizer.Load(_tiny.TiktokenFolder)];
        for (int seed = 0; seed < Fuzz.Cases(600); seed++)
        {
            Check(tokenizers[seed % tokenizers.Length], Fuzz.Text(new Random(seed), 40));
        }
    }

    [Fact]
    public void Several_tokens_of_one_character_share_its_offset_and_are_never_parted()
    {
        // 4 bytes, 4 tokens, 2 UTF-16 units each.
        const string Text = "a😀😀b";
        IReadOnlyList<EncodedToken> tokens = _tokenizer.EncodeToTokens(Text, out _);
        Range[] expected = [0..1, 1..3, 1..3, 1..3, 1..3, 3..5, 3..5, 3..5, 3..5, 5..6];
        Assert.Equal(expected, tokens.Select(token => token.Offset));
        (int Index, int Count)[] fromStart = [(1, 1), (1, 1), (1, 1), (1, 1), (3, 5), (3, 5), (3, 5), (3, 5), (5, 9), (6, 10), (6, 10)];
        (int Index, int Count)[] fromEnd = [(5, 1), (5, 1), (5, 1), (5, 1), (3, 5), (3, 5), (3, 5), (3, 5), (1, 9), (0, 10), (0, 10)];
        for (int most = 1; most <= fromStart.Length; most++)
        {
            Assert.Equal(fromStart[most - 1], (_tokenizer.GetIndexByTokenCount(Text, most, out _, out int first), first));
            Assert.Equal(fromEnd[most - 1], (_tokenizer.GetIndexByTokenCountFromEnd(Text, most, out _, out int last), last));
        }
        Assert.Equal((0, 0), (_tokenizer.GetIndexByTokenCount("😀", 3, out _, out int none), none));
        Assert.Equal((2, 0), (_tokenizer.GetIndexByTokenCountFromEnd("😀", 3, out _, out none), none));
    }

    [Fact]
    public void Added_tokens_are_recognized_and_stand_where_they_are_spelled()
    {
        IReadOnlyList<EncodedToken> tokens = _tokenizer.EncodeToTokens("a<|im_end|>\n<think>", out _);
        Assert.Equal(
            [('a', "a", 0..1), (TinyTokenizer.ImEnd, "<|im_end|>", 1..11), ('\n', "Ċ", 11..12), (TinyTokenizer.Think, "<think>", 12..19)],
            tokens.Select(token => (token.Id, token.Value, token.Offset)));
        Assert.Equal("a<|im_end|>\n<think>", _tokenizer.Decode(tokens.Select(token => token.Id)));
    }

    [Fact]
    public void Normalization_is_a_switch_and_offsets_point_into_the_text_that_was_read()
    {
        const string Text = "xe\u0301\ud800<|im_end|>e\u0301";
        IReadOnlyList<EncodedToken> composed = _tokenizer.EncodeToTokens(Text, out string? normalized);
        Assert.Equal("x\u00e9\uFFFD<|im_end|>\u00e9", normalized);
        Assert.Equal(normalized!.Length, composed[^1].Offset.End.Value);
        IReadOnlyList<EncodedToken> apart = _tokenizer.EncodeToTokens(Text, out string? none, considerNormalization: false);
        Assert.Null(none);
        Assert.Equal("xe\u0301\uFFFD<|im_end|>e\u0301", _tokenizer.Decode(apart.Select(token => token.Id)));
        Assert.Equal(Text.Length, apart[^1].Offset.End.Value);
        Assert.Equal([.. "xe"u8.ToArray().Select(value => (int)value), .. _tiny.Reference("\u0301"u8.ToArray())], apart.Take(4).Select(token => token.Id));
        Assert.Equal((apart.Count, composed.Count), (_tokenizer.CountTokens(Text, considerNormalization: false), _tokenizer.CountTokens(Text)));
        // "e" alone, and "e" with its accent as one character.
        Assert.Equal(2, _tokenizer.GetIndexByTokenCount("xe\u0301", 2, out _, out int _, considerNormalization: false));
        Assert.Equal(1, _tokenizer.GetIndexByTokenCount("xe\u0301", 2, out _, out int _));
    }

    [Fact]
    public void Without_pre_tokenization_text_is_one_word_and_added_tokens_are_text()
    {
        // 't is a word of its own, so that "the" is none; read as one word the merges of "the" apply.
        foreach (string text in (string[])["a'the", "a<|im_end|>b", "我们 公司 hello hello"])
        {
            IReadOnlyList<int> ids = _tokenizer.EncodeToIds(text, considerPreTokenization: false);
            Assert.Equal(_tiny.Reference(Encoding.UTF8.GetBytes(text)), ids);
            Assert.Equal(text, _tokenizer.Decode(ids));
            Assert.Equal(ids.Count, _tokenizer.CountTokens(text, considerPreTokenization: false));
        }
        Assert.NotEqual(_tokenizer.EncodeToIds("a'the"), _tokenizer.EncodeToIds("a'the", considerPreTokenization: false));
    }

    [Fact]
    public void What_fits_into_a_span_is_written_whole_and_the_rest_later()
    {
        QwenTokenizer qwen = (QwenTokenizer)_tokenizer;
        for (int seed = 0; seed < 300; seed++)
        {
            Random random = new(seed);
            // Ids of text, and any ids: bytes that are no text, ids that do not exist.
            int[] ids = seed % 2 == 0
                ? [.. _tokenizer.EncodeToIds(Fuzz.Text(random, 20))]
                : [.. Enumerable.Range(0, 12).Select(_ => random.Next(qwen.VocabularySize + 5))];
            string expected = qwen.Decode(ids, skipSpecialTokens: false);
            Assert.Equal(expected, _tokenizer.Decode(ids));
            StringBuilder decoded = new();
            int size = seed % 7;
            for (int at = 0; ;)
            {
                char[] span = new char[size];
                OperationStatus status = _tokenizer.Decode(ids.Skip(at), span, out int consumed, out int written);
                decoded.Append(span, 0, written);
                at += consumed;
                Assert.Equal(decoded.ToString(), expected[..decoded.Length]);
                if (status == OperationStatus.Done)
                {
                    break;
                }

                Assert.Equal(OperationStatus.DestinationTooSmall, status);
                // Only a span that has no room for the next piece stands still.
                if (consumed == 0)
                {
                    size++;
                }

                Assert.InRange(size, 0, expected.Length);
            }
            Assert.Equal(expected, decoded.ToString());
        }
    }

    [Fact]
    public void A_character_is_not_written_in_halves()
    {
        IReadOnlyList<int> ids = _tokenizer.EncodeToIds("a😀");
        char[] span = new char[2];
        Assert.Equal(OperationStatus.DestinationTooSmall, _tokenizer.Decode(ids, span, out int consumed, out int written));
        Assert.Equal((1, 1, 'a'), (consumed, written, span[0]));
        Assert.Equal(OperationStatus.Done, _tokenizer.Decode(ids.Skip(1), span, out consumed, out written));
        Assert.Equal((4, 2, "😀"), (consumed, written, new string(span)));
        // What never becomes a character is U+FFFD at the end.
        Assert.Equal(OperationStatus.Done, _tokenizer.Decode(ids.Take(3), span, out consumed, out written));
        Assert.Equal((3, 2, "a\uFFFD"), (consumed, written, new string(span)));
    }

    [Fact]
    public void Nothing_and_wrong_arguments()
    {
        Assert.Empty(_tokenizer.EncodeToIds(""));
        Assert.Equal(0, _tokenizer.CountTokens(""));
        Assert.Equal(0, _tokenizer.GetIndexByTokenCount("", 5, out _, out int count) + count);
        Assert.Equal(0, _tokenizer.GetIndexByTokenCountFromEnd("", 5, out _, out count) + count);
        Assert.Equal("", _tokenizer.Decode([]));
        Assert.Equal(OperationStatus.Done, _tokenizer.Decode([], [], out _, out _));
        Assert.Throws<ArgumentNullException>(() => _tokenizer.Decode(null!));
        Assert.Throws<ArgumentOutOfRangeException>(() => _tokenizer.EncodeToIds("a", 0, out _, out _));
        Assert.Throws<ArgumentOutOfRangeException>(() => _tokenizer.GetIndexByTokenCountFromEnd("a", 0, out _, out _));
    }

    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "EncodeToTokens")]
    private static extern EncodeResults<EncodedToken> EncodeToTokens(Tokenizer tokenizer, string? text, ReadOnlySpan<char> span, EncodeSettings settings);

    /// <summary>The text that the offsets cut out, each character once: a token begins behind the one before it, or at the character that they share.</summary>
    private static string Rebuilt(string text, IReadOnlyList<EncodedToken> tokens)
    {
        StringBuilder rebuilt = new();
        foreach (EncodedToken token in tokens)
        {
            (int start, int end) = (token.Offset.Start.Value, token.Offset.End.Value);
            int shared = rebuilt.Length - start;
            Assert.True(shared == 0 || (shared > 0 && shared == Width(text, start)), $"offset {start}..{end} behind {rebuilt.Length}");
            rebuilt.Append(text, rebuilt.Length, end - rebuilt.Length);
        }
        return rebuilt.ToString();
    }

    private static void CheckCuts(Tokenizer tokenizer, string text, IReadOnlyList<int> ids, string read)
    {
        // (tokens, characters) at each place where both a token and a character end.
        Dictionary<int, int> characters = [];
        int utf8 = 0;
        for (int at = 0; at < read.Length; at += Width(read, at))
        {
            characters[utf8] = at;
            utf8 += Rune.GetRuneAt(read, at).Utf8SequenceLength;
        }
        characters[utf8] = read.Length;
        List<(int Tokens, int Characters)> cuts = [];
        for (int i = 0, bytes = 0; i <= ids.Count; i++)
        {
            if (characters.TryGetValue(bytes, out int at))
            {
                cuts.Add((i, at));
            }

            bytes += i < ids.Count ? ((QwenTokenizer)tokenizer).Bytes(ids[i], skipSpecialTokens: false).Length : 0;
        }
        Assert.Equal((ids.Count, read.Length), cuts[^1]);
        for (int most = 1; most <= ids.Count + 1; most++)
        {
            (int count, int index) = cuts.Last(cut => cut.Tokens <= most);
            Assert.Equal((index, count), (tokenizer.GetIndexByTokenCount(text, most, out _, out int found), found));
            Assert.Equal(ids.Take(count), tokenizer.EncodeToIds(text, most, out _, out int consumed));
            Assert.Equal(index, consumed);
            EncodeSettings settings = new() { ConsiderPreTokenization = true, ConsiderNormalization = true, MaxTokenCount = most };
            EncodeResults<EncodedToken> tokens = EncodeToTokens(tokenizer, text, text, settings);
            Assert.Equal((count, index), (tokens.Tokens.Count, tokens.CharsConsumed));
            Assert.Equal(read, tokens.NormalizedText ?? text);
            (int before, index) = cuts.First(cut => cut.Tokens >= ids.Count - most);
            Assert.Equal((index, ids.Count - before), (tokenizer.GetIndexByTokenCountFromEnd(text, most, out _, out found), found));
        }
    }

    private static int Width(string text, int at) => char.IsHighSurrogate(text[at]) ? 2 : 1;
}
