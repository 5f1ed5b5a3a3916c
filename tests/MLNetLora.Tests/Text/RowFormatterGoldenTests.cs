using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Text;
using Xunit.Abstractions;

namespace MLNetLora.Tests.Text;

[Trait("Category", "Golden")]
public sealed class RowFormatterGoldenTests(ITestOutputHelper output)
{
    [Fact]
    public void Rows_become_the_ids_and_labels_of_the_training_cases()
    {
        int compared = 0;
        foreach (string folder in Golden.TrainingFolders())
        {
            string model = Golden.Beside(folder, Json.Root(Path.Combine(folder, "case.json")).GetProperty("model").GetString()!);
            RowFormatter formatter = Formatter(model);
            InstructionRow[] rows = [.. Dataset.Read(Path.Combine(folder, "rows.json")).Select(row => row.Instruction!)];
            JsonElement[] expected = [.. Json.Array(Path.Combine(folder, "tokens.json"))];
            Assert.Equal(expected.Length, rows.Length);

            // The cases cut rows at a maximum that they do not name; the longest row shows it.
            int maximum = expected.Max(row => row.GetProperty("input_ids").GetArrayLength());
            int[] block = EmptyBlock(model);
            for (int i = 0; i < rows.Length; i++)
            {
                TextRow text = new(rows[i]);
                (TrainingRow row, TokenizationReport report) = Assert.Single(formatter.Tokenize(text, LabelScope.Answer, maximum + block.Length));
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

        Report.Golden(output, "training", " (tokens)", compared);
    }

    [Theory]
    [InlineData("training")]
    [InlineData("forward")]
    public void Prompts_are_those_of_the_generation_cases(string kind)
    {
        int compared = 0;
        IEnumerable<string> folders = kind == "training" ? Golden.TrainingFolders() : Golden.Folders(kind);
        foreach (string path in folders.Select(folder => Path.Combine(folder, "generate.json")).Where(File.Exists))
        {
            string folder = Path.GetDirectoryName(path)!;
            string model = kind == "forward"
                ? $"models/{Path.GetFileName(folder)}"
                : Json.Root(Path.Combine(folder, "case.json")).GetProperty("model").GetString()!;
            RowFormatter formatter = Formatter(Golden.Beside(folder, model));
            foreach (JsonElement test in Json.Array(path))
            {
                InstructionRow row = test.TryGetProperty("prompt", out JsonElement prompt)
                    ? new InstructionRow(prompt.GetString()!)
                    : new InstructionRow(test.GetProperty("instruction").GetString()!, Input: test.GetProperty("input").GetString());
                Assert.Equal(Json.Integers(test.GetProperty("prompt_ids")), formatter.Prompt(new TextRow(row)));
                compared++;
            }
        }

        Report.Golden(output, kind, " (prompts)", compared);
    }

    /// <summary>
    /// The cases were made with enable_thinking left unsaid, where Qwen3's prompt leaves the thinking to the model. Rows that do not think are trained behind
    /// the prompt of enable_thinking=false, which has an empty block more.
    /// </summary>
    private static int[] EmptyBlock(string folder) =>
        ChatTemplate.Load(folder).Reads("enable_thinking") ? [.. QwenTokenizer.Load(folder).EncodeToIds("<think>\n\n</think>\n\n")] : [];

    private static RowFormatter Formatter(string folder) => new(QwenTokenizer.Load(folder), folder, new PromptSettings());
}
