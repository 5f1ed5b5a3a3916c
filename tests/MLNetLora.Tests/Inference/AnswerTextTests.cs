using System.Text;
using MLNetLora.Inference;
using MLNetLora.Tests.Text;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Where an answer ends, whatever comes first in it.</summary>
public sealed class AnswerTextTests : IDisposable
{
    private readonly TinyTokenizer _tiny = new();

    public void Dispose() => _tiny.Dispose();

    [Theory]
    [InlineData("\n\nno", "\n\n", true, "")] // nothing but white space is before it
    [InlineData(" \nno", "\n", true, " ")]
    [InlineData("<think>\n\nt\n</think>\n\nyes\n", "\n", true, "yes")] // not looked for in the thinking
    [InlineData("\n yes", "\n\n", false, "\n yes")]
    [InlineData("<thin\nx", "\n", true, "<thin")]
    public void A_stop_string_of_white_space_ends_it(string generated, string stop, bool ends, string expected)
    {
        QwenTokenizer tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);
        AnswerText answer = new(tokenizer, new() { StopStrings = [stop] }, AnswerStart.Nothing, _ => { });
        bool ended = tokenizer.EncodeToIds(generated).Any(id => answer.Add(new(id)));
        answer.Finish();
        Assert.Equal((ends, expected), (ended, answer.Text));
    }

    [Fact]
    public void A_call_ends_it_where_one_is_enough_however_many_strings_do()
    {
        QwenTokenizer tokenizer = QwenTokenizer.Load(_tiny.VocabularyFolder);
        GenerationOptions options = new() { StopStrings = [.. Enumerable.Range(0, 64).Select(i => $"§{i}")], EndsWithCall = true };
        options.Validate();
        AnswerText answer = new(tokenizer, AnswerText.WithEnds(options.Copy(), tokenizer), AnswerStart.Answer, _ => { });
        bool ended = tokenizer.EncodeToIds("<tool_call>{}</tool_call>\n<tool_call>").Any(id => answer.Add(new(id)));
        answer.Finish();
        Assert.Equal((true, "<tool_call>{}"), (ended, answer.Text));
    }

    [Fact]
    public void A_piece_brings_the_tokens_whose_text_is_whole_with_it()
    {
        (List<GeneratedChunk> pieces, AnswerText answer) = Answered(
            [TinyTokenizer.Think, .. Encoding.UTF8.GetBytes("\na</think>\nb☃STxSTOPy").Select(value => (int)value)]);
        Assert.Equal(
            [("a", "<think>\na"), ("b", "</think>\nb"), ("☃", "☃"), ("STx", "STx")], // what might have become the stop string waits
            pieces.Select(piece => (piece.Text, Text(piece.Tokens!))));
        Assert.Equal("STOP", Text([.. answer.Tokens!.Skip(pieces.Sum(piece => piece.Tokens!.Count))])); // and what has become it is in no piece
    }

    [Fact]
    public void Half_a_character_at_the_end_has_its_token()
    {
        (List<GeneratedChunk> pieces, AnswerText answer) = Answered("x☃"u8.ToArray()[..3].Select(value => (int)value));
        Assert.Equal([("x", 1), ("\uFFFD", 2)], pieces.Select(piece => (piece.Text, piece.Tokens!.Count)));
        Assert.Equal(3, answer.Tokens!.Count);
    }

    [Theory]
    [InlineData((int)AnswerStart.Nothing, "\n<think>\nx</think>\ny", "x", "y")]
    [InlineData((int)AnswerStart.OpenedThinking, "\nx</think>\ny", "x", "y")]
    [InlineData((int)AnswerStart.WithinThinking, "\nx</think>\ny", "\nx", "y")]
    [InlineData((int)AnswerStart.Answer, "\n<think>\nx</think>\ny", null, "\n<think>\nx</think>\ny")]
    public void Where_the_prompt_ends_says_what_follows(int start, string generated, string? thinking, string expected)
    {
        AnswerText answer = new(QwenTokenizer.Load(_tiny.VocabularyFolder), new(), (AnswerStart)start, _ => { });
        _ = Encoding.UTF8.GetBytes(generated).Any(value => answer.Add(new(value)));
        answer.Finish();
        Assert.Equal((thinking, expected), (answer.Thinking, answer.Text));
    }

    private static string Text(IReadOnlyList<GeneratedToken> tokens) => Encoding.UTF8.GetString([.. tokens.SelectMany(token => token.Bytes.ToArray())]);

    /// <summary>The pieces of an answer that stops before STOP, with log probabilities. A byte is its own token.</summary>
    private (List<GeneratedChunk> Pieces, AnswerText Answer) Answered(IEnumerable<int> ids)
    {
        List<GeneratedChunk> pieces = [];
        GenerationOptions options = new() { TopLogprobs = 0, StopStrings = ["STOP"] };
        AnswerText answer = new(QwenTokenizer.Load(_tiny.VocabularyFolder), options, AnswerStart.Nothing, pieces.Add);
        _ = ids.Any(id => answer.Add(new(id)));
        answer.Finish();
        return (pieces, answer);
    }
}
