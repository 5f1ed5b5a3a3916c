using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;

namespace MLNetLora.Tests.Text;

/// <summary>Rows that callers hand over: what may not be null is said by name, before anything is answered.</summary>
public class TextRowTests
{
    public static TheoryData<string, Conversation> Conversations => new()
    {
        { "conversations[1]", null! },
        { "conversations[1].Messages", new Conversation(null!) },
        { "conversations[1].Messages is empty", new Conversation([]) },
        { "conversations[1].Messages[0]", new Conversation([null!]) },
        { "conversations[1].Messages[1].Role", new Conversation([ChatMessage.User("a"), new ChatMessage(null!, "b")]) },
        { "ToolCalls[…].Name", new Conversation([new ChatMessage("assistant", "a") { ToolCalls = [null!] }]) },
        { "ToolCalls[…].Arguments", new Conversation([new ChatMessage("assistant", "a") { ToolCalls = [new ToolCall("f", null!)] }]) },
        { "conversations[1].Tools", new Conversation([ChatMessage.User("a")], [default]) },
    };

    public static TheoryData<string, InstructionRow> Rows => new()
    {
        { "rows[1]", null! },
        { "rows[1].Instruction", new InstructionRow(null!) },
        { "rows[1].History[0]", new InstructionRow("a", History: [null!]) },
    };

    [Theory]
    [MemberData(nameof(Conversations))]
    public void A_conversation_without_what_it_must_have(string part, Conversation conversation)
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        ArgumentException error = Assert.ThrowsAny<ArgumentException>(() => generator.Reply([new([ChatMessage.User("a")]), conversation], new()));
        Assert.Contains(part, error.Message);
    }

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_row_without_what_it_must_have(string part, InstructionRow row)
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        Assert.Contains(part, Assert.ThrowsAny<ArgumentException>(() => generator.Generate([new InstructionRow("a"), row], new())).Message);
    }
}
