using System.Text.Json;
using Microsoft.Extensions.AI;
using MLNetLora.Inference;
using MLNetLora.Text;
using AIMessage = Microsoft.Extensions.AI.ChatMessage;

namespace MLNetLora.Tests.Inference;

/// <summary>Messages and tools as the chat template gets them.</summary>
public class ChatMessagesTests
{
    [Fact]
    public void Instructions_and_leading_system_messages_become_one()
    {
        Conversation conversation = ChatMessages.ToConversation(
            [new(ChatRole.System, "Be kind."), new(new ChatRole("developer"), "Be short."), new(ChatRole.User, "Hi"), new(ChatRole.System, "Later.")],
            "Answer in French.",
            tools: null);
        Assert.Equal(
            [("system", "Answer in French.\n\nBe kind.\n\nBe short."), ("user", "Hi"), ("system", "Later.")],
            conversation.Messages.Select(message => (message.Role, message.Content!)));
        Assert.Null(conversation.Tools);
        Assert.Equal("Be kind.", ChatMessages.ToConversation([new(ChatRole.System, "Be kind.")], "", []).Messages.Single().Content);
        Assert.Equal("Kind.", ChatMessages.ToConversation([new(ChatRole.User, "Hi")], "Kind.", []).Messages[0].Content);
    }

    [Fact]
    public void A_call_with_its_results_and_thinking_is_written_as_the_template_learned_it()
    {
        AIMessage[] messages =
        [
            new(ChatRole.User, [new TextContent("Weather in "), new TextContent("Paris?")]),
            new(ChatRole.Assistant,
            [
                new TextReasoningContent("I must "), new TextReasoningContent("look."),
                new TextContent("Let me look."),
                new FunctionCallContent("1", "weather", new Dictionary<string, object?> { ["city"] = "巴黎", ["days"] = 2 }),
                new FunctionCallContent("2", "time"),
                new UsageContent(new UsageDetails()),
            ]),
            new(ChatRole.Tool, [new FunctionResultContent("1", new { rain = true }), new FunctionResultContent("2", "noon")]),
        ];
        AIFunction weather = AIFunctionFactory.Create((string city, int days = 1) => city + days, "weather", "The weather");
        Conversation conversation = ChatMessages.ToConversation(messages, null, [weather]);

        Assert.Equal(["user", "assistant", "tool", "tool"], conversation.Messages.Select(message => message.Role));
        string text = ChatTemplate.Parse(File.ReadAllText(Path.Combine(Repository.Root, "tests", "golden", "templates", "qwen3.jinja")))
            .Render(conversation.Messages, conversation.Tools, addGenerationPrompt: true);
        Assert.Contains(
            """{"type": "function", "function": {"name": "weather", "description": "The weather", "parameters": {"type": "object", "properties": """
            + """{"city": {"type": "string"}, "days": {"type": "integer", "default": 1}}, "required": ["city"]}}}""",
            text,
            StringComparison.Ordinal);
        Assert.EndsWith(
            """
            <|im_start|>user
            Weather in Paris?<|im_end|>
            <|im_start|>assistant
            <think>
            I must look.
            </think>

            Let me look.
            <tool_call>
            {"name": "weather", "arguments": {"city": "巴黎", "days": 2}}
            </tool_call>
            <tool_call>
            {"name": "time", "arguments": {}}
            </tool_call><|im_end|>
            <|im_start|>user
            <tool_response>
            {"rain":true}
            </tool_response>
            <tool_response>
            noon
            </tool_response><|im_end|>
            <|im_start|>assistant

            """.ReplaceLineEndings("\n"),
            text,
            StringComparison.Ordinal);
        Assert.Equal(["1", "2"], conversation.Messages.Skip(2).Select(message => message.ToolCallId!));
        Assert.Equal(["1", "2"], conversation.Messages[1].ToolCalls!.Select(call => call.Id!));
    }

    [Theory]
    [InlineData("text", "text")]
    [InlineData(42, "42")]
    [InlineData(null, "")]
    [InlineData(true, "true")]
    public void A_result_is_text_or_JSON(object? result, string expected) => Assert.Equal(expected, Result(new FunctionResultContent("1", result)));

    [Fact]
    public void A_result_may_be_JSON_or_contents()
    {
        using JsonDocument json = JsonDocument.Parse("""["a b", {"c": "é"}]""");
        Assert.Equal("a b", Result(new FunctionResultContent("1", json.RootElement[0])));
        Assert.Equal("""{"c":"é"}""", Result(new FunctionResultContent("1", json.RootElement[1])));
        Assert.Equal("one two", Result(new FunctionResultContent("1", new AIContent[] { new TextContent("one "), new TextContent("two") })));
        Assert.Equal("one", Result(new FunctionResultContent("1", new TextContent("one"))));
        FunctionResultContent failed = new("1", null) { Exception = new InvalidOperationException("secret") };
        Assert.Equal("Error: the function failed.", Result(failed));
        Assert.Throws<NotSupportedException>(() => Result(new FunctionResultContent("1", new DataContent(new byte[1], "image/png"))));
    }

    [Fact]
    public void What_is_not_text_is_refused_in_words()
    {
        Refused("data of type image/png", ChatRole.User, new DataContent(new byte[1], "image/png"));
        Refused("a link to data of type audio/wav", ChatRole.User, new UriContent("https://example.com/a.wav", "audio/wav"));
        Refused("FunctionCallContent", ChatRole.User, new FunctionCallContent("1", "f"));
        Refused("ErrorContent", ChatRole.Assistant, new ErrorContent("no"));
        Refused("the role narrator", new ChatRole("narrator"), new TextContent("a"));

        static void Refused(string what, ChatRole role, AIContent content)
        {
            NotSupportedException error = Assert.Throws<NotSupportedException>(() => ChatMessages.ToConversation([new AIMessage(role, [content])], null, null));
            Assert.Contains(what, error.Message, StringComparison.Ordinal);
        }
    }

    private static string Result(FunctionResultContent result) =>
        ChatMessages.ToConversation([new AIMessage(ChatRole.Tool, [result])], null, null).Messages.Single().Content!;
}
