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
        AnswerText answer = new(tokenizer, [stop], isThinking: false, _ => { });
        bool ended = tokenizer.EncodeToIds(generated).Any(answer.Add);
        answer.Finish();
        Assert.Equal((ends, expected), (ended, answer.Text));
    }
}
