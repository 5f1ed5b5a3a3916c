using System.Text.Json;
using MLNetLora.Text;
using Xunit.Abstractions;

namespace MLNetLora.Tests.Text;

/// <summary>
/// Whole conversations as ids and labels: what stands before an answer is the prompt that transformers renders, what is learned is the rest of the rendered
/// conversation.
/// </summary>
[Trait("Category", "Golden")]
public sealed class ConversationGoldenTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData("answer", LabelScope.Answer)]
    [InlineData("all_assistant_turns", LabelScope.AllAssistantTurns)]
    public void Conversations_become_the_ids_and_labels_of_the_cases(string key, LabelScope scope)
    {
        int compared = 0;
        foreach (string folder in Golden.Kinds("conversations"))
        {
            QwenTokenizer tokenizer = QwenTokenizer.Load(Path.Combine(folder, "..", "tokenizers", "qwen3"));
            foreach (JsonElement test in Json.Array(Path.Combine(folder, "cases.json")))
            {
                string template = Path.Combine(folder, "..", "templates", $"{test.GetProperty("template").GetString()}.jinja");
                ConversationFormatter formatter = new(tokenizer, ChatTemplate.Parse(File.ReadAllText(template)));
                Conversation conversation = new(
                    [.. test.GetProperty("messages").EnumerateArray().Select(ConversationFormatterGoldenTests.Message)],
                    test.GetProperty("tools") is { ValueKind: JsonValueKind.Array } tools ? [.. tools.EnumerateArray()] : null);
                JsonElement[] expected = [.. test.GetProperty(key).EnumerateArray()];
                IReadOnlyList<TokenizedRow> rows = formatter.TokenizeRows(conversation, scope, int.MaxValue);
                Assert.Equal(expected.Length, rows.Count);
                for (int i = 0; i < rows.Count; i++)
                {
                    int[] ids = Json.Integers(expected[i].GetProperty("ids"));
                    Assert.Equal(ids, rows[i].Row.InputIds);
                    Assert.Equal(Labels(ids, expected[i].GetProperty("learned")), rows[i].Row.Labels);
                }

                compared++;
            }
        }

        Report.Golden(output, "conversations", $" ({key})", compared);
    }

    private static int[] Labels(int[] ids, JsonElement learned)
    {
        int[] labels = [.. ids.Select(_ => TrainingRow.Ignore)];
        foreach (JsonElement span in learned.EnumerateArray())
        {
            (int from, int to) = (span[0].GetInt32(), span[1].GetInt32());
            ids.AsSpan(from, to - from).CopyTo(labels.AsSpan(from));
        }

        return labels;
    }
}
