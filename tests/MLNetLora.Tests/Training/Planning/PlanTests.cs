using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;
using MLNetLora.Training.Planning;

namespace MLNetLora.Tests.Training.Planning;

/// <summary>What a plan makes of what probes measure.</summary>
public sealed class PlanTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Two_points_are_a_line_for_each_figure()
    {
        ProbeFigures few = new(2, 500, 100, 10, 1, [0.5, 1], 0.25, 0.1, 2, 20);
        ProbeFigures more = new(6, 540, 300, 50, 3, [1.5, 3], 0.25, 0.3, 6, 60);
        ProbeFigures all = ProbeFigures.Extrapolate(few, more, 24);
        Assert.Equal((24, 720.0, 1200.0, 230.0), (all.Layers, all.StartBytes, all.TrainingBytes, all.EvaluationBytes));
        Assert.Equal(1200, all.PeakBytes); // the largest part of a small model, the start, is not that of a large one
        Assert.Equal([6, 12], all.BatchSeconds);
        Assert.Equal((12.0, 0.25, 24.0, 240.0), (all.StartSeconds, all.WarmupSeconds, all.EvaluationSeconds, all.Parameters));
        Assert.Equal(1.2, all.OptimizerSeconds, 9);
        Assert.Equal(3, ProbeFigures.Extrapolate(few with { StartSeconds = 9 }, more, 24).StartSeconds); // a layer never takes less than nothing
        Assert.Equal(all.ToJson(), ProbeFigures.Parse(all.ToJson()).ToJson());
    }

    [Fact]
    public void First_micro_batches_are_slower_than_later_ones_and_the_whole_corrects_what_is_extrapolated()
    {
        ProbeFigures asked = new(3, 1, 1, 0, 0, [3, 6], 1, 0, 0, 0);
        Assert.Equal(0.75, asked.LaterShare);
        Assert.Same(asked, asked.Settled(0.5)); // its own times are those of later ones
        ProbeFigures first = asked with { AreFirst = true, BatchSeconds = [4, 8], WarmupSeconds = 0 };
        ProbeFigures settled = first.Settled(0.75);
        Assert.Equal([3, 6], settled.BatchSeconds);
        Assert.Equal(1, settled.WarmupSeconds);
        Assert.True(ProbeFigures.Parse(first.ToJson()).AreFirst);

        ProbeFigures all = new(24, 10, 200, 220, 5, [4, 8], 1, 0.5, 6, 70);
        ProbeFigures corrected = all.Corrected(new ProbeFigures(24, 90, 300, 0, 99, [12], 9, 99, 0, 70));
        Assert.Equal((300.0, 320.0, 10.0), (corrected.TrainingBytes, corrected.EvaluationBytes, corrected.StartBytes));
        Assert.Equal((99.0, 9.0), (corrected.StartSeconds, corrected.WarmupSeconds));
        Assert.Equal([6, 12], corrected.BatchSeconds);
        Assert.Equal(0, (all with { EvaluationBytes = 0 }).Corrected(asked).EvaluationBytes);
    }

    [Theory]
    [InlineData(10e9, 1e9, 2, true)]
    [InlineData(10e9, 0.7e9, 2, false)] // memory is a line
    [InlineData(10e9, 1e9, 11, false)] // it takes long
    [InlineData(3e9, 1e9, 2, false)] // it may not fit
    public void The_whole_model_is_measured_where_memory_is_no_line(double available, double bytes, double seconds, bool isMeasured)
    {
        string folder = _folder.File("base");
        TinyModel.WriteConfig(folder, "qwen3", tied: true, layers: 12);
        Checkpoint checkpoint = TinyModel.WriteWeights(folder);
        List<int> probed = [];
        MachineMemory.Given = (long)available;
        try
        {
            RunPlan plan = new Planner((request, _) =>
            {
                probed.Add(request.Layers);
                bool isWhole = request.Layers == 12;
                double part = request.Layers / 6.0;
                return new ProbeFigures(request.Layers, 0, isWhole ? 3e9 : part * bytes, 0, 0, [.. request.Batches.Select(_ => part * seconds)], 0, 0, 0, 1);
            })
            { Small = 0 }.Plan(Run(checkpoint, new TrainingOptions()));
            Assert.Equal(isMeasured ? [3, 6, 12] : [3, 6], probed);
            Assert.Equal(probed, plan.ProbedLayers);
            Assert.Equal(isMeasured ? 3e9 : 2 * bytes, plan.PeakBytes, 1.0);
        }
        finally
        {
            MachineMemory.Given = null;
        }
    }

    [Theory]
    [InlineData("large", 24, 2, new[] { 3, 12 })]
    [InlineData("large", 24, 3, new[] { 3, 8 })]
    [InlineData("large", 4, 2, new[] { 4 })] // a part would be nearly all of it
    [InlineData("small", 24, 2, new[] { 24 })]
    [InlineData("alternating", 24, 2, new[] { 8, 12 })] // each kind once between the first layer and the last
    [InlineData("alternating", 26, 2, new[] { 10, 14 })] // and the last of the same kind as the model's
    [InlineData("one layer", 24, 2, new[] { 24 })] // an adapter on one layer alone has no pattern
    public void Parts_have_whole_periods_of_the_layers(string kind, int layers, int share, int[] expected)
    {
        QwenConfig config = Config(layers, kind == "small" ? 64 : 1024) with
        {
            SlidingWindows = [.. Enumerable.Range(0, layers).Select(layer => kind == "alternating" && layer % 4 != 3 ? 128 : (int?)null)],
        };
        LoraOptions lora = new() { Rank = 2, LayersToTransform = kind == "one layer" ? [20] : null };
        LayerPattern pattern = LayerPattern.Of(config, Trained(layers), share, Trained);
        Assert.Equal(expected, pattern.Counts);

        IReadOnlyList<TrainableTensor> Trained(int count)
        {
            QwenConfig part = config.FirstLayers(count);
            AdapterParts parts = AdapterParts.Resolve(lora, Architecture.Find(part.ModelType, ""), part);
            return [.. parts.Tensors.Select(tensor => new TrainableTensor(tensor.Key, tensor.Shape, tensor.Decays))];
        }
    }

    [Theory]
    [InlineData("qwen", false)]
    [InlineData("qwen2", true)]
    [InlineData("qwen3_moe", false)]
    [InlineData("qwen3_5", true)]
    public void A_part_of_a_checkpoint_is_a_model_of_its_first_layers(string modelType, bool tied)
    {
        string folder = _folder.File("whole");
        TinyModel.WriteConfig(folder, modelType, tied, layers: 4);
        Checkpoint whole = TinyModel.WriteWeights(folder);
        Checkpoint part = whole.FirstLayers(2);
        string written = _folder.File("part");
        TinyModel.WriteConfig(written, modelType, tied, layers: 2);
        SafetensorsWriter.Write(Path.Combine(written, "model.safetensors"), [.. part.Tensors.Select(tensor =>
        {
            float[] values = new float[tensor.Value.Entry.Count];
            tensor.Value.File.ReadFloat32(tensor.Value.Entry, values);
            return SafetensorsWriter.Item.From(tensor.Key, TensorType.Float32, tensor.Value.Entry.Shape, values);
        })]);
        Assert.True(part.TextParameterCount < whole.TextParameterCount);
        Assert.Equal(Loss(Checkpoint.Open(written)), Loss(part));
        Assert.NotEqual(Loss(whole), Loss(part));
    }

    [Fact]
    public void A_probe_measures_a_part_of_a_model()
    {
        string folder = _folder.File("base");
        TinyModel.WriteConfig(folder, "qwen3", tied: true, layers: 4);
        TrainingOptions options = new() { BatchSize = 2, GradientAccumulationSteps = 2, Threads = 1, NumberOfEpochs = 2 };
        PlannedRun run = Run(TinyModel.WriteWeights(folder), options);
        List<ProbeRequest> requests = [];
        RunPlan plan = new Planner((request, cancellation) =>
        {
            requests.Add(ProbeRequest.Parse(request.ToJson()));
            return RunProbe.Measure(requests[^1], cancellation);
        }).Plan(run);
        Assert.Null(plan.Failure);
        Assert.Equal([4], plan.ProbedLayers);
        Assert.True(plan.PeakBytes > 0 && plan.StartSeconds > 0 && plan.StepSeconds > 0 && plan.EvaluationSeconds > 0);
        Assert.Equal(4, plan.Steps); // seven rows are four micro-batches, two windows, two epochs
        Assert.Equal(2.0 * run.Rows.Sum(row => row.InputIds.Length), plan.Tokens);
        Assert.Equal(LoraAdapter.Create(run.Lora!, run.Checkpoint, 1).ParameterCount, plan.TrainedParameters);

        ProbeFigures half = RunProbe.Measure(requests[0] with { Layers = 2 });
        Assert.Equal(plan.TrainedParameters / 2, half.Parameters);
        Assert.Equal(requests[0].Batches.Count, half.BatchSeconds.Count);
        Assert.Equal(run.Lora!.TargetModules.Pattern, requests[0].Lora!.TargetModules.Pattern);
        Assert.Equal(run.Training.BatchSize, requests[0].Training.BatchSize);
    }

    [Fact]
    public void Micro_batches_of_a_run_are_counted_by_their_length()
    {
        PlannedRun run = Run(TinyModel.WriteCheckpoint(_folder.File("base")), new TrainingOptions { BatchSize = 1, NumberOfEpochs = 3, EvaluationSteps = 2 });
        RunShape shape = RunShape.Of(run.Checkpoint.Config, 64, run.Rows, run.Validation, run.Training, strata: 3);
        Assert.Equal(3.0 * run.Rows.Sum(row => row.InputIds.Length), shape.Strata.Sum(stratum => stratum.Count * stratum.Batch[0][0].InputIds.Length), 6);
        Assert.Equal(3 * run.Rows.Count, shape.MicroBatches);
        Assert.Equal(run.Rows.Max(row => row.InputIds.Length), Assert.Single(shape.Largest)[0][0].InputIds.Length);
        Assert.Equal(3, shape.Steps);
        Assert.Equal(2.0 * run.Validation.Sum(row => row.InputIds.Length) / run.Validation.Max(row => row.InputIds.Length), shape.Evaluations); // steps 2 and 3

        TrainingOptions packed = new() { PackingLength = 40, NumberOfEpochs = 1 };
        RunShape sequences = RunShape.Of(run.Checkpoint.Config, 64, run.Rows, [], packed, strata: 3);
        Assert.True(sequences.MicroBatches < run.Rows.Count);
        Assert.Equal(0, sequences.Evaluations);
    }

    [Fact]
    public void Other_options_are_those_that_make_sense_and_the_quickest_that_fits_is_named()
    {
        PlannedRun run = Run(TinyModel.WriteCheckpoint(_folder.File("base")), new TrainingOptions { BatchSize = 2, GradientAccumulationSteps = 3 });
        Assert.Equal(
            ["ActivationCheckpointing True", "BatchSize 1, GradientAccumulationSteps 6",
                "BatchSize 1, GradientAccumulationSteps 6, ActivationCheckpointing True", "Precision Int8", "Precision Nf4Double", "PrepackWeights True"],
            PlanAlternatives.Of(run).Select(PlanAlternatives.Name));
        PlannedRun packed = run.With(options => (options.BatchSize, options.PrepackWeights) = (1, true)); // a layout that 4 bits have not
        Assert.Equal(["ActivationCheckpointing True", "Precision Int8"], PlanAlternatives.Of(packed).Select(PlanAlternatives.Name));
        Assert.DoesNotContain(PlanAlternatives.Of(run with { Lora = null }), changes => changes.ContainsKey(nameof(TrainingOptions.Precision)));

        RunPlan slow = new() { Changes = new Dictionary<string, object>(), AvailableBytes = 100, PeakBytes = 50, Steps = 1, StepSeconds = 9 };
        RunPlan rereads = slow with { PeakBytes = 50, WeightBytes = 60, StepSeconds = 1 };
        RunPlan large = slow with { PeakBytes = 101, StepSeconds = 2 };
        RunPlan quick = slow with { PeakBytes = 90, StepSeconds = 3 };
        Assert.Equal([MemoryFit.Fits, MemoryFit.ReadsWeightsAgain, MemoryFit.DoesNotFit], new[] { slow, rereads, large }.Select(plan => plan.Fit));
        Assert.Same(quick, PlanAlternatives.Quickest([slow, rereads, large, quick]));
        Assert.Same(rereads, PlanAlternatives.Quickest([large, rereads]));
        Assert.Null(PlanAlternatives.Quickest([large, slow with { Failure = "killed" }]));
    }

    [LinuxFact]
    public void A_probe_that_is_killed_leaves_no_sockets_for_debuggers()
    {
        PlannedRun run = Run(TinyModel.WriteCheckpoint(_folder.File("base")), new TrainingOptions());
        ProbeProcess probe = new("/bin/sh", "-c", "echo diagnostics $DOTNET_EnableDiagnostics >&2; exit 1");
        Assert.Equal("diagnostics 0", new Planner(probe.Measure).Plan(run).Failure);
    }

    [Fact]
    public void What_plans_that_were_killed_have_quantized_goes_after_a_day()
    {
        string[] names = [$"plan-{Guid.NewGuid():N}", $"plan-{Guid.NewGuid():N}", "plan-of-mine"];
        foreach (string name in names)
        {
            Directory.CreateDirectory(_folder.File(name));
            File.WriteAllText(Path.Combine(_folder.File(name), "weights"), "");
        }

        Directory.SetLastWriteTimeUtc(_folder.File(names[0]), DateTime.UtcNow.AddDays(-2));
        Directory.SetLastWriteTimeUtc(_folder.File(names[2]), DateTime.UtcNow.AddDays(-2));
        ProbeProcess.RemoveOld(Path.GetDirectoryName(_folder.File(names[0]))!);
        Assert.Equal([false, true, true], names.Select(name => Directory.Exists(_folder.File(name))));
        ProbeProcess.RemoveOld(_folder.File("nowhere"));
    }

    [Fact]
    public void What_a_probe_dies_of_is_in_the_plan()
    {
        PlannedRun run = Run(TinyModel.WriteCheckpoint(_folder.File("base")), new TrainingOptions());
        RunPlan plan = new Planner((_, _) => throw new ProbeException("memory ran out")).Plan(run);
        Assert.Equal(("memory ran out", MemoryFit.DoesNotFit), (plan.Failure, plan.Fit));
    }

    [Fact]
    public void Weights_in_files_are_those_that_are_not_copied()
    {
        PlannedRun run = Run(TinyModel.WriteCheckpoint(_folder.File("base")), new TrainingOptions());
        double all = 4 * run.Checkpoint.TextParameterCount;
        double linears = run.Checkpoint.Architecture.Linears(run.Checkpoint.Config).Sum(module => (double)module.In * module.Out);
        Assert.Equal(all, FrozenWeights.MappedBytes(run));
        Assert.Equal(all - (4 * linears), FrozenWeights.MappedBytes(run.With(options => options.Precision = WeightPrecision.Int8)));
        Assert.Equal(
            all - (4 * linears) + (linears * (0.5 + (1.0 / 64))),
            FrozenWeights.MappedBytes(run.With(options => options.Precision = WeightPrecision.Nf4Double)));
        Assert.Equal(0, FrozenWeights.MappedBytes(run with { Lora = null }));
    }

    private static PlannedRun Run(Checkpoint checkpoint, TrainingOptions options)
    {
        Random random = new(4);
        return new PlannedRun(checkpoint, new LoraOptions { Rank = 2, TargetModules = "all-linear" }, options,
            [.. Enumerable.Range(0, 7).Select(i => TinyModel.Row(random, 6 + i))], [.. Enumerable.Range(0, 2).Select(i => TinyModel.Row(random, 5 + i))]);
    }

    private static QwenConfig Config(int layers, int hidden) => new()
    {
        ModelType = "qwen3",
        HiddenSize = hidden,
        IntermediateSize = 4 * hidden,
        NumHiddenLayers = layers,
        NumAttentionHeads = 4,
        NumKeyValueHeads = 4,
        HeadDim = hidden / 4,
        VocabSize = 100,
        Rope = new RopeParameters("default", 10000),
        SlidingWindows = [],
    };

    /// <summary>The first loss of a training.</summary>
    private static double Loss(Checkpoint checkpoint)
    {
        LoraOptions lora = new() { Rank = 2, TargetModules = "all-linear", Dropout = 0 };
        TrainingRow[] rows = [TinyModel.Row(new Random(3), 9)];
        return LoraTraining.Train(checkpoint, lora, rows, new TrainingOptions { MaximumSteps = 1, Threads = 1 }).Summary.Steps[0].Loss;
    }
}
