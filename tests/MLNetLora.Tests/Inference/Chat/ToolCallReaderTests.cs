using System.Text;
using MLNetLora.Inference;

namespace MLNetLora.Tests.Inference;

/// <summary>Calls within an answer, wherever its pieces are cut.</summary>
public class ToolCallReaderTests
{
    private const string Call = "<tool_call>\n{\"name\": \"f\"}\n</tool_call>";

    [Theory]
    [InlineData("Just text, with < and <tool in it.\n\n", "Just text, with < and <tool in it.\n\n")]
    [InlineData(Call, "[{\"name\": \"f\"}]")]
    [InlineData("\n\n" + Call + "\n", "[{\"name\": \"f\"}]")]
    [InlineData("Let me look.\n" + Call, "Let me look.[{\"name\": \"f\"}]")]
    [InlineData("Let me look.\n" + Call + "\n" + Call + "\n Well.\n", "Let me look.[{\"name\": \"f\"}][{\"name\": \"f\"}]Well.\n")]
    [InlineData("a \n<tool_call>\nno call</tool_call> b", "a \n<tool_call>\nno call</tool_call> b")]
    [InlineData("a \n<tool_call>\nno call</tool_call> b\n" + Call, "a \n<tool_call>\nno call</tool_call> b[{\"name\": \"f\"}]")]
    [InlineData(Call + "\n<tool_call> no call", "[{\"name\": \"f\"}]<tool_call> no call")]
    [InlineData("a\n<tool_call>\n{\"name\": \"f\"}\n", "a[{\"name\": \"f\"}]")]
    [InlineData("a</tool_call>", "a</tool_call>")]
    [InlineData("", "")]
    public void A_call_is_found_wherever_the_pieces_are_cut(string answer, string expected)
    {
        for (int length = 1; length <= answer.Length + 1; length++)
        {
            Assert.Equal(expected, Read(answer, length, isWhole: true));
        }
    }

    [Theory]
    [InlineData("a\n<tool_call>\n{\"name\": \"f\"}\n", "a\n<tool_call>\n{\"name\": \"f\"}\n")]
    [InlineData("a\n<tool_ca", "a\n<tool_ca")]
    [InlineData(Call + "\n<tool_call>\n{\"name\": \"f\"}", "[{\"name\": \"f\"}]<tool_call>\n{\"name\": \"f\"}")]
    public void A_call_that_the_limit_of_length_cut_off_stays_text(string answer, string expected)
    {
        for (int length = 1; length <= answer.Length; length++)
        {
            Assert.Equal(expected, Read(answer, length, isWhole: false));
        }
    }

    [Fact]
    public void Text_does_not_wait_longer_than_it_must()
    {
        List<string> texts = [];
        ToolCallReader reader = new(_ => true, texts.Add);
        reader.Add("One two <");
        Assert.Equal(["One two"], texts);
        reader.Add("b>");
        Assert.Equal(["One two", " <b>"], texts);
    }

    /// <summary>The answer again, with its calls in brackets.</summary>
    private static string Read(string answer, int pieceLength, bool isWhole)
    {
        StringBuilder read = new();
        ToolCallReader reader = new(Parse, text => read.Append(text));
        for (int i = 0; i < answer.Length; i += pieceLength)
        {
            reader.Add(answer[i..Math.Min(answer.Length, i + pieceLength)]);
        }

        reader.Finish(isWhole);
        return read.ToString();

        bool Parse(string body)
        {
            bool isCall = body.Contains('{', StringComparison.Ordinal);
            read.Append(isCall ? $"[{body.Trim()}]" : "");
            return isCall;
        }
    }
}
