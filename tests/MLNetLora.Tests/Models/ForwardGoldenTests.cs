using MLNetLora.Checkpoints;
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
            string model = Golden.Beside(folder, $"models/{Path.GetFileName(folder)}");
            if (!File.Exists(Path.Combine(folder, "batch.safetensors")))
            {
                report.Skip(Path.GetFileName(folder), GoldenFile.Unsupported(ModelOf(folder)) ?? "no batch");
                continue;
            }

            if (GoldenFile.Unsupported(model) is string reason)
            {
                report.Skip(Path.GetFileName(folder), reason);
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

    private static string ModelOf(string folder)
    {
        string name = Path.GetFileName(folder);
        string models = Golden.Beside(folder, "models");
        return Directory.EnumerateDirectories(models).Where(m => name.StartsWith(Path.GetFileName(m), StringComparison.Ordinal)).OrderByDescending(
            m => m.Length).First();
    }
}
