using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>The names that data sets give their fields.</summary>
public sealed class DatasetFieldsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("""{"question":"q","answer":"a"}""", "q||a|")]
    [InlineData("""{"Question":"q","Answer":"a"}""", "q||a|")]
    [InlineData("""{"query":"q","response":"a","type":"x"}""", "q||a|")]
    [InlineData("""{"problem":"q","solution":"a"}""", "q||a|")]
    [InlineData("""{"instruction":"q","context":"c","response":"a","category":"x"}""", "q|c|a|")]
    [InlineData("""{"system_prompt":"s","question":"q","response":"a"}""", "q||a|s")]
    [InlineData("""{"question":"q","context":"c","answer":"a","text":"t"}""", "q|c|a|")]
    [InlineData("""{"input":"q","output":"a"}""", "q||a|")]
    [InlineData("""{"问题":"q","答案":"a"}""", "q||a|")]
    [InlineData("""{"Instruction":"q","Input":"","Output":"a"}""", "q||a|")]
    [InlineData("""{"instruction":"q","output":"a","answer":"b"}""", "q||a|")]
    public void Other_names_for_an_instruction_and_its_output_are_taken(string row, string expected)
    {
        InstructionRow read = Assert.Single(Read("a.jsonl", row)).Instruction!;
        Assert.Equal(expected, $"{read.Instruction}|{read.Input}|{read.Output}|{read.System}");
    }

    [Theory]
    [InlineData("a.csv", "Frage;Antwort\nq;a\n")]
    [InlineData("a.csv", "QUESTION,ANSWER\nq,a\n")]
    [InlineData("a.tsv", "question\tanswer\nq\ta\n")]
    public void Tables_too(string name, string content)
    {
        InstructionRow read = Assert.Single(Read(name, content)).Instruction!;
        Assert.Equal(("q", "a"), (read.Instruction, read.Output));
    }

    [Fact]
    public void A_prompt_may_have_an_answer() =>
        Assert.Equal(["q", "a"], Assert.Single(Read("a.jsonl", """{"prompt":"q","answer":"a"}""")).Conversation!.Messages.Select(message => message.Content));

    [Theory]
    [InlineData("""{"question":"q","answer":"a","response":"b"}""", "\"answer\" and \"response\" could both be what is called \"output\" here. Rename the one")]
    [InlineData("""{"question":"q","query":"r","answer":"a"}""", "\"question\" and \"query\" could both be what is called \"instruction\" here")]
    [InlineData("""{"question":"q","Question":"r","answer":"a"}""", "\"question\" and \"Question\" could both be")]
    [InlineData(
        """{"prompt":"q","chosen":"a","rejected":"b"}""",
        "the row has \"prompt\", \"chosen\", \"rejected\". Known are instruction and output, question and answer")]
    [InlineData("""{"q1":"q","a1":"a"}""", "set the trainer's options InstructionColumnName and OutputColumnName to its columns")]
    [InlineData("""{"question":"q","answer":"a"}""" + "\n" + """{"question":"q","answer":" "}""", "line 2, row 2: \"output\" is empty")]
    [InlineData("""{"messages":[{"role":"user","content":" "},{"role":"assistant","content":"a"}]}""", "message 1: the message is empty")]
    [InlineData("""{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"\n"}]}""", "message 2: the message is empty")]
    [InlineData("""{"version":1,"data":[{"question":"q","answer":"a"}]}""", "If \"data\" is the list of the rows, let the file begin with its bracket")]
    [InlineData("{\n  \"question\": \"q\",\n  \"answer\": \"a\"\n}", "Outside of an array a row ends on its own line: put the rows into [ and ]")]
    public void Nobody_guesses(string content, string expected) =>
        Assert.Contains(expected, Assert.Throws<DatasetException>(() => Read("a.jsonl", content).Count()).Message, StringComparison.Ordinal);

    private IEnumerable<DatasetRow> Read(string name, string content)
    {
        File.WriteAllText(_folder.File(name), content);
        return Dataset.Read(_folder.File(name));
    }
}
