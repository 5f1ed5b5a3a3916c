using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Inference;

/// <summary>Scores on a GPU beside those of the processor, where there is one (<see cref="Golden.Device"/>).</summary>
public sealed class DeviceAnswersTests(Xunit.Abstractions.ITestOutputHelper output) : IDisposable
{
    private const double Most = 0.05; // relative, of scores in 16 bits

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [GpuTheory]
    [InlineData("qwen")]
    [InlineData("qwen2")]
    [InlineData("qwen3")]
    [InlineData("qwen3_5_text")]
    public void Scores_are_near_to_the_processor_s(string family)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), family, type: TensorType.BFloat16, positions: 256);
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2, TargetModules = TargetModules.AllLinear }, checkpoint, 1);
        foreach (WeightPrecision precision in Enum.GetValues<WeightPrecision>())
        {
            Near($"{family} {precision}", checkpoint, adapter, precision, [3, 9, 27, 11, 5, 15]);
        }
    }

    [GpuTheory]
    [InlineData(WeightPrecision.Checkpoint)]
    [InlineData(WeightPrecision.Int8)]
    [InlineData(WeightPrecision.Int4)]
    public void So_are_those_of_a_model_that_was_trained(WeightPrecision precision) =>
        Near($"nano {precision}", Checkpoint.Open(Repository.Nano), null, precision, [.. Enumerable.Range(0, 200).Select(i => (i * 37) % 400)]);

    private void Near(string name, Checkpoint checkpoint, LoraAdapter? adapter, WeightPrecision precision, int[] prompt)
    {
        using CausalLanguageModel there = new(checkpoint, adapter, precision: precision, device: Golden.Device);
        using CausalLanguageModel here = new(checkpoint, adapter, precision: precision);
        double error = GoldenFile.RelativeError(there.Logits(prompt), here.Logits(prompt));
        output.WriteLine(FormattableString.Invariant($"{name}: {error:E2}"));
        Assert.InRange(error, 0, Most);
    }
}

/// <summary>A test on a GPU; skipped where none is named.</summary>
public sealed class GpuTheoryAttribute : TheoryAttribute
{
    public GpuTheoryAttribute() => Skip = Golden.Device is CudaDevice ? null : "needs a GPU: MLNETLORA_TEST_DEVICE=cuda:0";
}
