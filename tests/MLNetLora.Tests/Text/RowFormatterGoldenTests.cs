using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Text;
using Xunit.Abstractions;

namespace MLNetLora.Tests.Text;

[Trait("Category", "Golden")]
public sealed class RowFormatterGoldenTests(ITestOutputHelper output)
{
    private readonly List<string> _skipped = [];

    [Fact]
    public void Rows_become_the_ids_and_labels_of_the_training_cases()
    {
        int compared = 0;
        foreach (string folder in Golden.Folders("training"))
        {
            string model = Json.Root(Path.Combine(folder, "case.json")).GetProperty("model").GetString()!;
            if (LacksTemplate(model))
                continue;
            RowFormatter formatter = Formatter(model);
            InstructionRow[] rows = [.. Dataset.Read(Path.Combine(folder, "rows.json")).Select(row => row.Instruction!)];
            JsonElement[] expected = [.. Json.Array(Path.Combine(folder, "tokens.json"))];
            Assert.Equal(expected.Length, rows.Length);
            // The cases cut rows at a maximum that they do not name; the longest row shows it.
            int maximum = expected.Max(row => row.GetProperty("input_ids").GetArrayLength());
            int[] block = EmptyBlock(model);
            for (int i = 0; i < rows.Length; i++)
            {
                (TrainingRow row, TokenizationReport report) = Assert.Single(formatter.Tokenize(new TextRow(rows[i]), LabelScope.Answer, maximum + block.Length));
                int[] ids = Json.Integers(expected[i].GetProperty("input_ids"));
                int[] labels = Json.Integers(expected[i].GetProperty("labels"));
                int answer = Array.FindIndex(labels, label => label != TrainingRow.Ignore);
                if (answer < 0)
                {
                    // The prompt was cut before its end, and ours a few tokens later.
                    Assert.Equal(ids, row.InputIds[..ids.Length]);
                    Assert.Equal(0, row.LabelTokens);
                    continue;
                }

                Assert.Equal([.. ids[..answer], .. block, .. ids[answer..]], row.InputIds);
                Assert.Equal([.. labels[..answer], .. block.Select(_ => TrainingRow.Ignore), .. labels[answer..]], row.Labels);
                Assert.Equal(row.InputIds.Length, report.KeptTokens);
                Assert.Equal(row.Labels.Count(label => label != TrainingRow.Ignore), report.KeptAnswerTokens);
                compared++;
            }
        }
        Finish("training", "tokens", compared);
    }

    [Theory]
    [InlineData("training")]
    [InlineData("forward")]
    public void Prompts_are_those_of_the_generation_cases(string kind)
    {
        int compared = 0;
        foreach (string path in Golden.Folders(kind).Select(folder => Path.Combine(folder, "generate.json")).Where(File.Exists))
        {
            string model = kind == "forward"
                ? $"models/{Path.GetFileName(Path.GetDirectoryName(path))}"
                : Json.Root(Path.Combine(Path.GetDirectoryName(path)!, "case.json")).GetProperty("model").GetString()!;
            if (LacksTemplate(model))
                continue;
            RowFormatter formatter = Formatter(model);
            foreach (JsonElement test in Json.Array(path))
            {
                InstructionRow row = test.TryGetProperty("prompt", out JsonElement prompt)
                    ? new InstructionRow(prompt.GetString()!)
                    : new InstructionRow(test.GetProperty("instruction").GetString()!, Input: test.GetProperty("input").GetString());
                Assert.Equal(Json.Integers(test.GetProperty("prompt_ids")), formatter.Prompt(new TextRow(row)));
                compared++;
            }
        }
        Finish(kind, "prompts", compared);
    }

    // The cases that live in this repository leave the chat templates out, and with them the default system message.
    private bool LacksTemplate(string model)
    {
        string folder = Path.Combine(Golden.Root!, model);
        bool lacks = Json.Root(Path.Combine(folder, "config.json")).GetProperty("model_type").GetString() != "qwen" && !File.Exists(Path.Combine(folder, "chat_template.jinja"))
            && !Json.Root(Path.Combine(folder, "tokenizer_config.json")).TryGetProperty("chat_template", out _);
        if (lacks)
            _skipped.Add(model);
        return lacks;
    }

    private void Finish(string kind, string what, int compared)
    {
        if (compared == 0 && _skipped.Count > 0)
            Report.Line(output, $"golden {kind} ({what}): skipped, no chat template in {string.Join(", ", _skipped.Distinct())}");
        else
            Report.Golden(output, kind, $" ({what})", compared);
    }

    /// <summary>
    /// The cases were made with enable_thinking left unsaid, where Qwen3's prompt leaves the thinking to the model. Rows that do not think are trained behind the prompt of
    /// enable_thinking=false, which has an empty block more.
    /// </summary>
    private static int[] EmptyBlock(string model)
    {
        string folder = Path.Combine(Golden.Root!, model);
        return ChatTemplate.Load(folder).Reads("enable_thinking") ? QwenTokenizer.Load(folder).EncodeWithSpecialTokens("<think>\n\n</think>\n\n") : [];
    }

    private static RowFormatter Formatter(string model)
    {
        string folder = Path.Combine(Golden.Root!, model);
        return new RowFormatter(QwenTokenizer.Load(folder), folder, new PromptSettings());
    }
}
