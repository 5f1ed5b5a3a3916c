using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Training in bfloat16, simulated: every number that a GPU would round is rounded.</summary>
[Trait("Category", "Golden")]
public sealed class BFloat16Tests(Xunit.Abstractions.ITestOutputHelper output)
{
    private const double MostOfAll = 1.05; // times PyTorch's error, in the geometric mean of all cases
    private const double MostOfOne = 1.6; // of a case alone: roundings fall as they fall

    /// <summary>
    /// Relative error of all gradients of a case in PyTorch 2.14 with transformers 5.12 and PEFT 0.20: the model loaded in bfloat16, the adapter in float32,
    /// autocast to bfloat16, against the same in float32, on a processor.
    /// </summary>
    private static readonly Dictionary<string, double> s_pyTorch = new()
    {
        ["qwen2-sliding/all-linear"] = 0.01810,
        ["qwen2-tied/all-linear"] = 0.01690,
        ["qwen2-tied/attention-rslora"] = 0.01080,
        ["qwen2-tied/bias-all"] = 0.01490,
        ["qwen2-tied/bias-lora-only"] = 0.00973,
        ["qwen2-tied/dora"] = 0.01250,
        ["qwen2-tied/exclude"] = 0.01350,
        ["qwen2-tied/layers"] = 0.01260,
        ["qwen2-tied/patterns"] = 0.01580,
        ["qwen2-tied/regex"] = 0.01110,
        ["qwen2-tied/seed-recipe"] = 0.01100,
        ["qwen2-tied/token-indices"] = 0.01110,
        ["qwen2-untied-bf16-sharded/all-linear"] = 0.01080,
        ["qwen2-untied-bf16-sharded/dora"] = 0.01190,
        ["qwen2-untied-bf16-sharded/save-embedding-and-head"] = 0.00936,
        ["qwen2-untied-bf16-sharded/save-head"] = 0.01010,
        ["qwen2-untied-bf16-sharded/seed-recipe"] = 0.01230,
        ["qwen3/all-linear"] = 0.02240,
        ["qwen3/attention-rslora"] = 0.02130,
        ["qwen3/bias-lora-only"] = 0.02340,
        ["qwen3/dora"] = 0.02420,
        ["qwen3/dora-all-linear"] = 0.01980,
        ["qwen3/layers"] = 0.01830,
        ["qwen3/patterns"] = 0.02680,
        ["qwen3/regex"] = 0.02800,
        ["qwen3/save-norms"] = 0.02080,
        ["qwen3/seed-recipe"] = 0.02360,
        ["qwen3_5-text/all-linear"] = 0.10800,
        ["qwen3_5-text/linear-attention"] = 0.33700,
        ["qwen3_5-text/seed-recipe"] = 0.08930,
    };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Gradients_are_as_near_as_those_of_PyTorch_in_bfloat16(bool recomputed)
    {
        List<double> ratios = [];
        foreach (string modelFolder in Golden.Folders("gradients"))
        {
            foreach (string folder in Directory.EnumerateDirectories(modelFolder).Order(StringComparer.Ordinal))
            {
                string name = $"{Path.GetFileName(modelFolder)}/{Path.GetFileName(folder)}";
                if (s_pyTorch.TryGetValue(name, out double peer))
                {
                    double error = Error(modelFolder, folder, recomputed);
                    output.WriteLine(FormattableString.Invariant($"{name,-50} {error:E2}, PyTorch {peer:E2}, ratio {error / peer:F2}"));
                    Assert.InRange(error, 1e-4, MostOfOne * peer); // something was rounded
                    ratios.Add(error / peer);
                }
            }
        }

        double mean = Math.Exp(ratios.Average(Math.Log));
        output.WriteLine(FormattableString.Invariant($"{ratios.Count} cases, geometric mean of the ratios {mean:F2}"));
        Assert.InRange(mean, 0, MostOfAll);
    }

    private static double Error(string modelFolder, string folder, bool recomputed)
    {
        JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
        Checkpoint checkpoint = Checkpoint.Open(Golden.Beside(modelFolder, description.GetProperty("model").GetString()!));
        LoraAdapter adapter = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter"), checkpoint);
        TrainingTarget target = TrainingTarget.Lora(checkpoint, adapter.Options.With(o => o.Dropout = 0));
        TrainingOptions options = new()
        {
            Threads = 1,
            ActivationCheckpointing = recomputed,
            ComputeType = ComputeType.BFloat16,
            SimulatesComputeType = true,
        };
        ChunkPlan plan = recomputed ? new ChunkPlan(2, 2, true, 2) : ChunkPlan.Whole;
        using TrainingSession session = new(target, options, plan);
        LoraParameters.Load(session.Parameters, adapter);
        GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
        Batch batch = Batch.Of(new GoldenFile(Path.Combine(modelFolder, "batch.safetensors")).Rows(), plan.Attention);
        float loss = session.Accumulate(batch, batch.LabelIds.Length);
        Assert.Equal(expected.Floats("loss")[0], loss, 0.002 * loss);
        string[] keys = [.. expected.Names.Where(key => key.StartsWith("grad.", StringComparison.Ordinal))];
        float[] actual = [.. keys.SelectMany(key => session.Parameters.Slice(session.Parameters.Gradients, key["grad.".Length..]).ToArray())];
        return GoldenFile.RelativeError(actual, [.. keys.SelectMany(expected.Floats)]);
    }
}
