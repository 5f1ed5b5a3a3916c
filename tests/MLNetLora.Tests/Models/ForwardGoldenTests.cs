using Microsoft.ML.OnnxRuntime;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Runtime;
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
            string model = Path.Combine(Golden.Root!, "models", Path.GetFileName(folder));
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
            TrainingTarget target = new(checkpoint.Config, checkpoint.Architecture, checkpoint, [], 0);
            IReadOnlyList<TrainingRow> rows = input.Rows();

            Batch batch = Batch.Of(rows);
            long vocabulary = checkpoint.Config.VocabSize;
            (double loss, _) = Run(target, batch, [.. batch.LabelPositions], [.. batch.LabelIds]);
            double expectedLoss = expected.Floats("loss")[0];
            report.Compare($"{Path.GetFileName(folder)} loss", Math.Abs((loss / batch.LabelIds.Length) - expectedLoss) / Math.Abs(expectedLoss), 1e-5);

            long[] every = [.. rows.SelectMany((row, r) => Enumerable.Range(0, row.InputIds.Length).Select(i => ((long)r * batch.Length) + i))];
            (_, float[] logits) = Run(target, batch, every, new long[every.Length]);
            float[] want = expected.Floats("logits");
            long width = expected.Shape("logits")[1];
            double worst = 0;
            for (int i = 0; i < every.Length; i++)
            {
                (long r, long s) = (every[i] / batch.Length, every[i] % batch.Length);
                for (int v = 0; v < vocabulary; v++)
                {
                    float e = want[(((r * width) + s) * vocabulary) + v];
                    worst = Math.Max(worst, Math.Abs((double)logits[(i * vocabulary) + v] - e) / (1 + Math.Abs(e)));
                }
            }

            report.Compare($"{Path.GetFileName(folder)} logits", worst, 5e-5);
        }

        report.Finish();
    }

    private static string ModelOf(string folder)
    {
        string name = Path.GetFileName(folder);
        string models = Path.Combine(Golden.Root!, "models");
        return Directory.EnumerateDirectories(models).Where(m => name.StartsWith(Path.GetFileName(m), StringComparison.Ordinal)).OrderByDescending(m => m.Length).First();
    }

    private static (double Loss, float[] Logits) Run(TrainingTarget target, Batch batch, long[] positions, long[] labels)
    {
        using OnnxSession session = new(TrainingModel.Evaluation(target, logits: true), SessionUse.Training, 1);
        using GraphInputs shared = new(target.Config);
        Dictionary<string, OrtValue> inputs = [];
        List<OrtValue> owned = [];
        shared.Add(batch with { LabelPositions = positions, LabelIds = labels }, 1f, 1, inputs, owned);
        using IDisposableReadOnlyCollection<OrtValue> results = session.Run(inputs.Keys, inputs.Values, ["loss", "logits"]);
        owned.ForEach(value => value.Dispose());
        return (results[0].GetTensorDataAsSpan<float>()[0], results[1].GetTensorDataAsSpan<float>().ToArray());
    }
}
