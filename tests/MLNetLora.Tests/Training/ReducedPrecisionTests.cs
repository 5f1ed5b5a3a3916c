using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Training in 16 bits, simulated: every number that a GPU would round is rounded. On a GPU (<see cref="Golden.Device"/>) gradients are its own.
/// </summary>
[Trait("Category", "Golden")]
public sealed class ReducedPrecisionTests(Xunit.Abstractions.ITestOutputHelper output)
{
    private const int Committed = 8; // of these cases are in the repository
    private const int CommittedMixtures = 5;
    private const double MostOfAll = 1.05; // times PyTorch's error, in the geometric mean of all cases
    private const double MostOfOne = 1.45; // of a case alone: roundings fall as they fall
    private const double MostOfFloat16 = 0.25; // three bits more than bfloat16 are an eighth of its error, in the mean

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

    /// <summary>The same of mixtures, their experts computed one after the other (experts_implementation "eager").</summary>
    private static readonly Dictionary<string, double> s_pyTorchMixtures = new()
    {
        ["qwen2-moe/seed-recipe"] = 0.02180,
        ["qwen2-moe/shared-expert"] = 0.02570,
        ["qwen3-moe/attention-rslora"] = 0.07396,
        ["qwen3-moe/seed-recipe"] = 0.06650,
        ["qwen2_moe/all-linear"] = 0.03139,
        ["qwen2_moe/parameters"] = 0.13287,
        ["qwen3_moe/all-linear"] = 0.04590,
        ["qwen3_moe/down"] = 0.02955,
        ["qwen3_moe/names"] = 0.04809,
    };

    [Theory]
    [InlineData(ComputeType.BFloat16, false, false)]
    [InlineData(ComputeType.BFloat16, true, false)]
    [InlineData(ComputeType.BFloat16, true, true)]
    [InlineData(ComputeType.Float16, false, false)]
    [InlineData(ComputeType.Float16, true, true)]
    public void Gradients_are_as_near_as_those_of_PyTorch_in_bfloat16(ComputeType type, bool recomputed, bool flash)
    {
        (double mostOfAll, double mostOfOne) = type == ComputeType.Float16 ? (MostOfFloat16, 2 * MostOfFloat16) : (MostOfAll, MostOfOne);
        List<double> ratios = [];
        HashSet<string> seen = [];
        foreach (string modelFolder in Golden.Kinds("gradients").SelectMany(Directory.EnumerateDirectories).Order(StringComparer.Ordinal))
        {
            foreach (string folder in Directory.EnumerateDirectories(modelFolder).Order(StringComparer.Ordinal))
            {
                string name = $"{Path.GetFileName(modelFolder)}/{Path.GetFileName(folder)}";
                if (s_pyTorch.TryGetValue(name, out double peer) && seen.Add(name))
                {
                    double error = Error(modelFolder, folder, type, recomputed, flash);
                    output.WriteLine(FormattableString.Invariant($"{name,-50} {error:E2}, PyTorch {peer:E2}, ratio {error / peer:F2}"));
                    Assert.InRange(error, 1e-4, mostOfOne * peer); // something was rounded
                    ratios.Add(error / peer);
                }
            }
        }

        Assert.InRange(ratios.Count, Committed, s_pyTorch.Count);
        double mean = Math.Exp(ratios.Average(Math.Log));
        output.WriteLine(FormattableString.Invariant($"{ratios.Count} cases, geometric mean of the ratios {mean:F2}"));
        Assert.InRange(mean, 0, mostOfAll);
    }

    /// <summary>Experts in blocks, as a GPU computes them. A rounded score sends some rows to other experts here and there, so cases differ more.</summary>
    [Theory]
    [InlineData(ComputeType.BFloat16, false)]
    [InlineData(ComputeType.BFloat16, true)]
    [InlineData(ComputeType.Float16, false)]
    public void So_are_those_of_mixtures(ComputeType type, bool recomputed)
    {
        (double mostOfAll, double mostOfOne) = type == ComputeType.Float16 ? (MostOfFloat16, 2 * MostOfFloat16) : (MostOfAll, MostOfOne);
        List<double> ratios = [];
        foreach ((string name, double peer) in s_pyTorchMixtures)
        {
            string? folder = new[] { "gradients", "experts" }.SelectMany(Golden.Kinds)
                .Select(kind => Path.Combine(kind, name))
                .FirstOrDefault(Directory.Exists);
            if (folder is not null)
            {
                double error = Error(Path.GetDirectoryName(folder)!, folder, type, recomputed, flash: false, expertsInBlocks: true);
                output.WriteLine(FormattableString.Invariant($"{name,-50} {error:E2}, PyTorch {peer:E2}, ratio {error / peer:F2}"));
                Assert.InRange(error, 1e-4, mostOfOne * peer);
                ratios.Add(error / peer);
            }
        }

        Assert.InRange(ratios.Count, CommittedMixtures, s_pyTorchMixtures.Count);
        double mean = Math.Exp(ratios.Average(Math.Log));
        output.WriteLine(FormattableString.Invariant($"{ratios.Count} cases, geometric mean of the ratios {mean:F2}"));
        Assert.InRange(mean, 0, mostOfAll);
    }

    /// <summary>Fused kernels round less often than the plain graph, whose gradients were compared above: theirs are nearer in the mean.</summary>
    [Theory]
    [InlineData(ComputeType.BFloat16)]
    [InlineData(ComputeType.Float16)]
    public void Gradients_of_fused_kernels_are_nearer_than_those_of_the_plain_graph(ComputeType type)
    {
        List<double> ratios = [];
        HashSet<string> seen = [];
        foreach (string modelFolder in Golden.Kinds("gradients").SelectMany(Directory.EnumerateDirectories).Order(StringComparer.Ordinal))
        {
            foreach (string folder in Directory.EnumerateDirectories(modelFolder).Order(StringComparer.Ordinal))
            {
                string name = $"{Path.GetFileName(modelFolder)}/{Path.GetFileName(folder)}";
                if (s_pyTorch.ContainsKey(name) && seen.Add(name))
                {
                    double plain = Error(modelFolder, folder, type, recomputed: true, flash: true);
                    double fused = Error(modelFolder, folder, type, recomputed: true, flash: true, fused: true);
                    output.WriteLine(FormattableString.Invariant($"{name,-50} {fused:E2}, plain {plain:E2}, ratio {fused / plain:F2}"));
                    Assert.InRange(fused / plain, 0.1, MostOfOne);
                    Assert.NotEqual(plain, fused);
                    ratios.Add(fused / plain);
                }
            }
        }

        Assert.InRange(ratios.Count, Committed, s_pyTorch.Count);
        double mean = Math.Exp(ratios.Average(Math.Log));
        output.WriteLine(FormattableString.Invariant($"{ratios.Count} cases, geometric mean of the ratios {mean:F3}"));
        Assert.InRange(mean, 0.1, ratios.Count == s_pyTorch.Count ? 1 : 1.1); // of few cases the mean is a matter of luck, too
    }

    private double Error(string modelFolder, string folder, ComputeType type, bool recomputed, bool flash, bool expertsInBlocks = false, bool fused = false)
    {
        JsonElement description = GoldenFile.Json(Path.Combine(folder, "case.json"));
        Checkpoint checkpoint = Checkpoint.Open(description.TryGetProperty("model", out JsonElement model)
            ? Golden.Beside(modelFolder, model.GetString()!)
            : Path.Combine(modelFolder, "model"));
        LoraAdapter adapter = LoraAdapter.LoadPeft(Path.Combine(folder, "adapter"), checkpoint);
        TrainingTarget target = TrainingTarget.Lora(checkpoint, adapter.Options.With(o => o.Dropout = 0));
        TrainingOptions options = new()
        {
            Threads = 1,
            ActivationCheckpointing = recomputed,
            ComputeType = type,
            Device = Golden.Device,
            SimulatesComputeType = Golden.Device is not CudaDevice,
            ExpertsInBlocks = expertsInBlocks,
            FusesKernels = fused,
        };
        ChunkPlan plan = recomputed ? new ChunkPlan(2, 2, true, 2, Flash: flash) : ChunkPlan.Whole;
        using TrainingSession session = new(target, options, plan);
        LoraParameters.Load(session.Parameters, adapter);
        GoldenFile expected = new(Path.Combine(folder, "expected.safetensors"));
        Batch batch = Batch.Of(new GoldenFile(Path.Combine(modelFolder, "batch.safetensors")).Rows(), plan.Attention);
        float loss;
        for (LossScale scale = LossScale.For(type); ; scale = scale.After(wasSkipped: true))
        {
            session.LossScale = scale.Factor;
            loss = session.Accumulate(batch, batch.LabelIds.Length);
            if (!scale.IsDynamic || float.IsFinite(session.GradientNorm()))
            {
                break;
            }

            Assert.False(scale.IsExhausted, "The gradients are not finite, whatever the loss scale.");
            session.Skip();
        }

        output.WriteLine(FormattableString.Invariant($"loss scale {session.LossScale}"));
        Assert.Equal(expected.Floats("loss")[0], loss, 0.002 * loss);
        string[] keys = [.. expected.Names.Where(key => key.StartsWith("grad.", StringComparison.Ordinal))];
        float[] actual = [.. keys.SelectMany(key => session.Parameters.Read(session.Parameters.Gradients, key["grad.".Length..]).ToArray())
            .Select(gradient => gradient / session.LossScale)];
        return GoldenFile.RelativeError(actual, [.. keys.SelectMany(expected.Floats)]);
    }

    /// <summary>What no reference case has: against the same in float32, which others do.</summary>
    [Theory]
    [InlineData("nf4", ComputeType.BFloat16)]
    [InlineData("nf4 double", ComputeType.BFloat16)]
    [InlineData("full", ComputeType.BFloat16)]
    [InlineData("full tied", ComputeType.BFloat16)]
    [InlineData("pissa", ComputeType.BFloat16)]
    [InlineData("tokens", ComputeType.BFloat16)]
    [InlineData("nf4 double", ComputeType.Float16)]
    [InlineData("full tied", ComputeType.Float16)]
    [InlineData("pissa", ComputeType.Float16)]
    [InlineData("tokens", ComputeType.Float16)]
    public void Other_ways_to_train_are_near_to_float32_too(string what, ComputeType reduced)
    {
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.File("base"), "qwen2", tied: what is "full tied" or "tokens");
        LoraOptions lora = new()
        {
            Rank = 2,
            Dropout = 0,
            TargetModules = TargetModules.AllLinear,
            Initialization = what == "pissa" ? LoraInitialization.Pissa : LoraInitialization.Default,
            TrainableTokenIndices = what == "tokens" ? [2, 5, 7] : [],
        };
        float[] full = Gradients(ComputeType.Float32);
        double error = GoldenFile.RelativeError(Gradients(reduced), full);
        output.WriteLine(FormattableString.Invariant($"{what}: {error:E2}"));
        Assert.InRange(error, 1e-4, reduced == ComputeType.Float16 ? 0.01 : 0.05);

        float[] Gradients(ComputeType type)
        {
            TrainingOptions options = new()
            {
                Threads = 1,
                ComputeType = type,
                SimulatesComputeType = type != ComputeType.Float32,
                Precision = what switch { "nf4" => WeightPrecision.Nf4, "nf4 double" => WeightPrecision.Nf4Double, _ => WeightPrecision.Checkpoint },
            };
            ChunkPlan plan = new(3, 2, false, 2);
            TrainingRow[] rows = [TinyModel.Row(new Random(5), 24), TinyModel.Row(new Random(6), 18)];
            bool isFull = what.StartsWith("full", StringComparison.Ordinal);
            LoraAdapter? start = isFull ? null : LoraTraining.Fresh(lora, checkpoint, options, default);
            TrainingTarget target = isFull ? TrainingTarget.Full(checkpoint.Config) : TrainingTarget.Lora(checkpoint, lora) with
            {
                Initial = [.. start!.Factors.Where(factors => factors.Initial is not null).Select(factors => factors.Module)],
            };
            target = Calibration.Prepare(target, options, plan, [.. rows.Select(row => new[] { row })]);
            using TrainingSession session = new(target, options, plan);
            if (start is null)
            {
                TinyModel.Fill(session.Parameters, new Random(3));
            }
            else
            {
                session.Hold(start);
                LoraParameters.Load(session.Parameters, start);
                foreach (TrainableTensor tensor in session.Parameters.Tensors.Where(tensor => tensor.Name.Contains("lora_B", StringComparison.Ordinal)))
                {
                    Random random = new(tensor.Name.Length);
                    session.Parameters.Fill(tensor.Name, (values, _) =>
                    {
                        for (int i = 0; i < values.Length; i++)
                        {
                            values[i] += (random.NextSingle() - 0.5f) / 10;
                        }
                    });
                }
            }

            Batch batch = Batch.Of(rows, plan.Attention);
            session.Accumulate(batch, batch.LabelIds.Length);
            return [.. session.Parameters.Tensors.SelectMany(tensor => session.Parameters.Slice(session.Parameters.Gradients, tensor.Name).ToArray())];
        }
    }

    [Fact]
    public void Losses_of_a_long_window_are_summed_whole()
    {
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.File("base"));
        LoraOptions lora = new() { Rank = 2, Dropout = 0 };
        using TrainingSession session = new(TrainingTarget.Lora(checkpoint, lora), new TrainingOptions { Threads = 1 }, ChunkPlan.Whole);
        LoraParameters.Load(session.Parameters, LoraAdapter.Create(lora, checkpoint, 1));
        Batch[] batches = [.. Enumerable.Range(0, 150).Select(i => Batch.Of([TinyModel.Row(new Random(i), 6 + (i % 5))], 1))];
        double expected = batches.Sum(batch => (double)session.Accumulate(batch, 10));
        foreach ((int i, Batch batch) in batches.Index())
        {
            session.Add(batch, 10, i, default);
            if (i == 80)
            {
                session.Evaluate(batch); // is no part of it
            }
        }

        Assert.Equal(expected, session.TakeLoss(), 1e-4 * expected);
        Assert.Equal(0, session.TakeLoss());
    }
}
