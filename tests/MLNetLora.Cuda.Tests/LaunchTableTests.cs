using System.Globalization;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Cuda.Tests;

/// <summary>
/// How many kernels every kind of graph starts, against the table in the repository: what a change costs or saves on a GPU is seen in review. Models of two
/// layers. UPDATE_LAUNCH_TABLE=1 writes the table anew.
/// </summary>
public sealed class LaunchTableTests : IDisposable
{
    private const string Header = "family\tstored\tcomputed\tprecision\tfused\tmicro-batch\trecomputed\tevaluation\toptimizer\tprefill\ttoken";

    private static readonly string s_table = Path.Combine(Repository.Root, "tests", "MLNetLora.Cuda.Tests", "launches.tsv");

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [CudaFact]
    public void Every_graph_starts_as_many_kernels_as_the_table_says()
    {
        List<string> lines = [Header];
        foreach (string family in (string[])["qwen", "qwen2", "qwen2 sliding", "qwen3", "qwen3_5_text", "qwen2_moe", "qwen3_moe"])
        {
            foreach (TensorType stored in (TensorType[])[TensorType.BFloat16, TensorType.Float32])
            {
                lines.Add(Line(family, stored, ComputeType.BFloat16, WeightPrecision.Checkpoint));
            }

            lines.Add(Line(family, TensorType.BFloat16, ComputeType.BFloat16, WeightPrecision.Checkpoint, fused: true));
            lines.Add(Line(family, TensorType.BFloat16, ComputeType.Float32, WeightPrecision.Checkpoint));
            lines.Add(Line(family, TensorType.BFloat16, ComputeType.Float16, WeightPrecision.Checkpoint));
            lines.Add(Line(family, TensorType.BFloat16, ComputeType.BFloat16, WeightPrecision.Nf4));
        }

        if (Environment.GetEnvironmentVariable("UPDATE_LAUNCH_TABLE") == "1")
        {
            File.WriteAllLines(s_table, lines);
        }

        Assert.Equal(File.ReadAllLines(s_table), lines);
    }

    private string Line(string family, TensorType stored, ComputeType computed, WeightPrecision precision, bool fused = false)
    {
        CudaDevice device = new() { FusedKernels = fused };
        string[] words = family.Split(' ');
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(
            _folder.File($"{family} {stored}"), words[0], type: stored, slidingWindow: words.Length > 1 ? 4 : null, positions: 256);
        LoraOptions lora = new() { Rank = 2, Dropout = family.EndsWith("moe", StringComparison.Ordinal) ? 0 : 0.1, TargetModules = TargetModules.AllLinear };
        long plain = Step(checkpoint, lora, device, computed, precision, recomputed: false, out long evaluation, out long optimizer);
        long recomputed = Step(checkpoint, lora, device, computed, precision, recomputed: true, out _, out _);
        (long prefill, long token) = computed == ComputeType.BFloat16 ? Answer(checkpoint, lora, device, precision) : (0, 0);
        return string.Join('\t', [family, $"{stored}", $"{computed}", $"{precision}", $"{fused}",
            .. new[] { plain, recomputed, evaluation, optimizer, prefill, token }.Select(count => count.ToString(CultureInfo.InvariantCulture))]);
    }

    private static long Step(Checkpoint checkpoint, LoraOptions lora, CudaDevice device, ComputeType type, WeightPrecision precision, bool recomputed,
        out long evaluation, out long optimizer)
    {
        TrainingOptions options = new()
        {
            Device = device,
            BatchSize = 2,
            ActivationCheckpointing = recomputed,
            ComputeType = type,
            Precision = precision,
        };
        Random random = new(1);
        TrainingRow[] rows = [TinyModel.Row(random, 9), TinyModel.Row(random, 9)];
        ChunkPlan plan = new(1, 1, recomputed, 1, Flash: type != ComputeType.Float32);
        TrainingTarget target = Calibration.Prepare(TrainingTarget.Lora(checkpoint, lora), options, plan, [.. rows.Select(row => new[] { row })]);
        using TrainingSession session = new(target, options, plan);
        Batch batch = Batch.Of(rows, plan.Attention);
        session.Evaluate(batch); // makes its session
        long launches = StandIn.Count(() => session.Add(batch, 10, 0, default)).Launches;
        session.TakeLoss();
        evaluation = StandIn.Count(() => session.Evaluate(batch)).Launches;
        optimizer = StandIn.Count(() => session.Step(1e-3, 1)).Launches;
        return launches;
    }

    private static (long Prefill, long Token) Answer(Checkpoint checkpoint, LoraOptions lora, CudaDevice device, WeightPrecision precision)
    {
        LoraAdapter adapter = LoraAdapter.Create(lora, checkpoint, 1);
        using CausalLanguageModel lm = new(checkpoint, adapter, precision: precision, device: device);
        GenerationOptions options = new() { MaximumNewTokens = 1 };
        long prefill = StandIn.Count(() => lm.Generate([[1, 2, 3]], options)).Launches;
        options.MaximumNewTokens = 2;
        return (prefill, StandIn.Count(() => lm.Generate([[1, 2, 3]], options)).Launches - prefill);
    }
}
