using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Models;

/// <summary>Logits and loss of every supported golden checkpoint against float64 PyTorch.</summary>
[Trait("Category", "Golden")]
public sealed class ForwardGoldenTests(Xunit.Abstractions.ITestOutputHelper output)
{
    [Fact]
    public void Logits_and_loss_equal_PyTorch()
    {
        GoldenReport report = new("forward", output);
        foreach (string folder in Golden.Folders("forward"))
        {
            string model = ModelOf(folder);
            if (GoldenFile.Unsupported(model) is string reason)
            {
                report.Skip(Path.GetFileName(folder), reason);
                continue;
            }

            if (!File.Exists(Path.Combine(folder, "batch.safetensors")))
            {
                ComparePrompt(folder, model, report);
                continue;
            }

            GoldenFile input = new(Path.Combine(folder, "batch.safetensors"));
            GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
            Checkpoint checkpoint = Checkpoint.Open(model);
            IReadOnlyList<TrainingRow> rows = input.Rows();
            Batch batch = Batch.Of(rows);
            (double loss, _) = LogitsRun.Run(checkpoint, null, batch);
            double expectedLoss = expected.Floats("loss")[0];
            report.Compare($"{Path.GetFileName(folder)} loss", Math.Abs((loss / batch.LabelIds.Length) - expectedLoss) / Math.Abs(expectedLoss), 1e-5);
            report.Compare($"{Path.GetFileName(folder)} logits", LogitsRun.Worst(checkpoint, null, rows, expected, "logits"), 5e-5);
        }

        report.Finish();
    }

    /// <summary>A prompt alone, as inference has it: by the evaluation graph, and its last token by the engine.</summary>
    private static void ComparePrompt(string folder, string model, GoldenReport report)
    {
        GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
        int[] prompt = [.. expected.Longs("input_ids").Select(id => (int)id)];
        Checkpoint checkpoint = Checkpoint.Open(model);
        report.Compare($"{Path.GetFileName(folder)} logits",
            LogitsRun.Worst(checkpoint, null, [new TrainingRow(prompt, prompt)], expected, "logits"), 5e-5);
        using CausalLanguageModel lm = new(checkpoint, threads: 1);
        float[] last = expected.Floats("logits")[^checkpoint.Config.VocabSize..];
        double worst = lm.Logits(prompt).Zip(last, (a, e) => Math.Abs((double)a - e) / (1 + Math.Abs(e))).Max();
        report.Compare($"{Path.GetFileName(folder)} last token", worst, 5e-5);
    }

    private static string ModelOf(string folder)
    {
        string name = Path.GetFileName(folder);
        string models = Golden.Beside(folder, "models");
        return Directory.EnumerateDirectories(models).Where(m => name.StartsWith(Path.GetFileName(m), StringComparison.Ordinal)).OrderByDescending(
            m => m.Length).First();
    }
}
