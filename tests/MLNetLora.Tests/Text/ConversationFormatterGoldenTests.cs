using System.Text.Json;
using MLNetLora.Text;
using Xunit.Abstractions;

namespace MLNetLora.Tests.Text;

[Trait("Category", "Golden")]
public sealed class ConversationFormatterGoldenTests(ITestOutputHelper output)
{
    [Fact]
    public void Parts_give_the_ids_of_the_whole_rendered_text()
    {
        string folder = Golden.Kind("templates");
        QwenTokenizer tokenizer = QwenTokenizer.Load(Golden.Folders("tokenizers").First(candidate => File.Exists(Path.Combine(candidate, "vocab.json"))));
        int compared = 0;
        foreach (JsonElement test in Json.Array(Path.Combine(folder, "cases.json")))
        {
            ChatTemplate template = ChatTemplate.Parse(File.ReadAllText(Path.Combine(folder, $"{test.GetProperty("template").GetString()}.jinja")));
            compared += Compare(tokenizer, template, test) ? 1 : 0;
        }

        Report.Golden(output, "templates", " (tokens)", compared);
    }

    private static bool Compare(QwenTokenizer tokenizer, ChatTemplate template, JsonElement test)
    {
        Dictionary<string, object?> variables = [];
        if (test.TryGetProperty("enable_thinking", out JsonElement thinking))
        {
            variables["enable_thinking"] = thinking;
        }

        ConversationFormatter formatter = new(tokenizer, template, variables);
        JsonElement messages = test.GetProperty("messages");
        bool prompt = test.GetProperty("add_generation_prompt").GetBoolean();
        bool isOther = messages.EnumerateArray().Any(message => message.GetProperty("content").ValueKind != JsonValueKind.String);
        if (isOther || test.TryGetProperty("documents", out _))
        {
            return false;
        }

        Conversation conversation = new(
            [.. messages.EnumerateArray().Select(Message)],
            test.GetProperty("tools") is { ValueKind: JsonValueKind.Array } tools ? [.. tools.EnumerateArray()] : null);
        string rendered = test.GetProperty("rendered").GetString()!;
        Assert.Equal(rendered, template.Render(conversation.Messages, conversation.Tools, prompt, variables));
        if (prompt)
        {
            Assert.Equal(tokenizer.EncodeToIds(rendered), formatter.Prompt(conversation));
            return true;
        }

        if (conversation.Messages[^1].Role != "assistant")
        {
            return false;
        }

        TrainingRow row = formatter.Tokenize(conversation, LabelScope.Answer, int.MaxValue, out TokenizationReport report);
        Assert.Equal(rendered, tokenizer.Decode(row.InputIds) + "\n");

        // Only where the answer begins may the two differ: there it is a part of its own.
        int[] whole = [.. tokenizer.EncodeToIds(rendered[..^1])];
        int answer = row.InputIds.Length - report.AnswerTokens;
        Assert.Equal(whole[..(answer - 1)], row.InputIds[..(answer - 1)]);
        Assert.Equal(tokenizer.ImEndId, row.Labels[^1]);
        int lastTurn = Array.LastIndexOf(row.InputIds, tokenizer.ImStartId!.Value) + 1;
        Assert.StartsWith("assistant\n", tokenizer.Decode(row.InputIds[lastTurn..]), StringComparison.Ordinal);
        return true;
    }

    internal static ChatMessage Message(JsonElement message) => new(message.GetProperty("role").GetString()!, message.GetProperty("content").GetString())
    {
        Thinking = message.TryGetProperty("reasoning_content", out JsonElement thinking) ? thinking.GetString() : null,
        ToolCalls = message.TryGetProperty("tool_calls", out JsonElement calls)
            ? [.. calls.EnumerateArray().Select(call => Call(call.GetProperty("function")))]
            : null,
    };

    private static ToolCall Call(JsonElement function) => new(function.GetProperty("name").GetString()!, function.GetProperty("arguments").GetRawText());
}
