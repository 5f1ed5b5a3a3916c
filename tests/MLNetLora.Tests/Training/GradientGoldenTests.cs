using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Every LoRA gradient of every supported golden case against PyTorch's autograd through PEFT.</summary>
[Trait("Category", "Golden")]
public sealed class GradientGoldenTests(Xunit.Abstractions.ITestOutputHelper output)
{
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void Gradients_equal_PEFT(bool checkpointing, bool prepacked) =>
        Compare($"gradients{(checkpointing ? " (recomputed)" : "")}{(prepacked ? " (prepacked)" : "")}", checkpointing, ChunkPlan.Whole, prepacked);

    [Theory]
    [InlineData(2, false)]
    [InlineData(3, true)]
    public void Gradients_equal_PEFT_in_chunks(int chunks, bool recompute) =>
        Compare($"gradients ({chunks} chunks{(recompute ? ", attention recomputed" : "")})", checkpointing: recompute,
            new ChunkPlan(chunks, chunks, recompute, Vocabulary: chunks + 1));

    [Fact]
    public void Gradients_equal_PEFT_with_attention_as_one_operator() =>
        Compare("gradients (attention as one operator)", checkpointing: true, new ChunkPlan(2, 2, true, 2, Flash: true));

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Gradients_of_mixtures_equal_PEFT_with_experts_in_blocks(bool checkpointing)
    {
        if (!Golden.Folders("gradients").Any(folder => Path.GetFileName(folder).Contains("moe", StringComparison.Ordinal)))
        {
            output.WriteLine("This set has mixtures among the cases of experts alone, which ExpertAdapterTests compares in blocks, too.");
            return;
        }

        Compare("gradients (experts in blocks)", checkpointing, ChunkPlan.Whole, expertsInBlocks: true);
    }

    /// <summary>Of the line that PEFT prints.</summary>
    private static long AllParameters(LoraAdapter adapter, Checkpoint checkpoint) => long.Parse(
        adapter.DescribeParameters(checkpoint).Split("all params: ")[1].Split(' ')[0],
        System.Globalization.NumberStyles.AllowThousands,
        System.Globalization.CultureInfo.InvariantCulture);

    private void Compare(string title, bool checkpointing, ChunkPlan plan, bool prepacked = false, bool expertsInBlocks = false)
    {
        GoldenReport report = new(title, output);
        foreach (string modelFolder in Golden.Folders("gradients"))
        {
            foreach (string folder in Directory.EnumerateDirectories(modelFolder).Order(StringComparer.Ordinal))
            {
                string name = $"{Path.GetFileName(modelFolder)}/{Path.GetFileName(folder)}";
                JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
                string model = Golden.Beside(modelFolder, description.GetProperty("model").GetString()!);
                string? reason = GoldenFile.Unsupported(model) ?? GoldenFile.UnsupportedAdapter(Path.Combine(folder, "adapter"));
                if (reason is not null)
                {
                    report.Skip(name, reason);
                    continue;
                }

                Checkpoint checkpoint = Checkpoint.Open(model);
                if (expertsInBlocks && checkpoint.Config.Experts is null)
                {
                    continue;
                }

                LoraAdapter adapter = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter"), checkpoint);
                report.Equal($"{name} parameter counts", [adapter.ParameterCount, AllParameters(adapter, checkpoint)],
                    [description.GetProperty("trainable_parameters").GetInt64(), description.GetProperty("all_parameters").GetInt64()]);

                TrainingTarget target = TrainingTarget.Lora(checkpoint, adapter.Options.With(o => o.Dropout = 0));
                using TrainingSession session = new(target,
                    new TrainingOptions
                    {
                        Threads = 1,
                        ActivationCheckpointing = checkpointing,
                        PrepackWeights = prepacked && Golden.Device is not CudaDevice,
                        Device = Golden.Device,
                        ComputeType = ComputeType.Float32,
                        ExpertsInBlocks = expertsInBlocks,
                    },
                    plan);
                LoraParameters.Load(session.Parameters, adapter);
                GoldenFile input = new(Path.Combine(modelFolder, "batch.safetensors"));
                GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
                Batch batch = Batch.Of(input.Rows(), plan.Attention);
                float loss = session.Accumulate(batch, batch.LabelIds.Length);
                float wantLoss = expected.Floats("loss")[0];
                report.Compare($"{name} loss", Math.Abs(loss - wantLoss) / wantLoss, 1e-5);

                string[] keys = [.. expected.Names.Where(key => key.StartsWith("grad.", StringComparison.Ordinal))];
                Assert.Equal(session.Parameters.Tensors.Count, keys.Length);
                foreach (string key in keys)
                {
                    report.Compare($"{name} {key}",
                        GoldenFile.RelativeError(session.Parameters.Read(session.Parameters.Gradients, key["grad.".Length..]), expected.Floats(key)), 5e-5);
                }
            }
        }

        report.Finish();
    }
}
