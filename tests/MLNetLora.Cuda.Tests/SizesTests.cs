using System.Diagnostics;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Tests;
using MLNetLora.Text;
using MLNetLora.Cli.NewCheckpoint;
using MLNetLora.Training;

namespace MLNetLora.Cuda.Tests;

/// <summary>What a step takes at real sizes: memory and launches are real, numbers are not.</summary>
public sealed class SizesTests(Xunit.Abstractions.ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [CudaTheory]
    [InlineData("Qwen2.5-0.5B", 1, 512, 2.0, 2.5, 5_200, 4_300)]
    public void A_step_fits(string size, int batchSize, int length, double gigabytes, double withEvaluation, long launches, long fused) =>
        Steps(size, batchSize, length, gigabytes, withEvaluation, launches, fused);

    /// <summary>As a CUDA graph, a step is one call.</summary>
    [CudaFact]
    public void A_small_step_is_started_with_one_call()
    {
        string folder = _folder.File("base");
        new CheckpointWriter(ModelSize.Find("Qwen2.5-0.5B"), ElementType.BFloat16) { IsSparse = true }.Write(folder);
        Checkpoint checkpoint = Checkpoint.Open(folder);
        LoraOptions lora = new() { Rank = 16, Dropout = 0, TargetModules = TargetModules.AllLinear };
        TrainingOptions options = new() { Device = new CudaDevice { Graphs = true }, ActivationCheckpointing = true };
        TrainingRow[] rows = [Row(new Random(1), 256)];
        TrainingTarget target = TrainingTarget.Lora(checkpoint, lora);
        ChunkPlan plan = TrainingLoop.Plan(checkpoint.Config, [rows], [], options, target.MaximumLossChunks);
        using TrainingSession session = new(target, options, plan);
        Batch batch = Batch.Of(rows, plan.Attention);
        DeviceCounts captured = StandIn.Count(() => session.Add(batch, 10, 0, default));
        long begun = Stopwatch.GetTimestamp();
        DeviceCounts replayed = StandIn.Count(() => session.Add(batch, 10, 1, default));
        double host = Stopwatch.GetElapsedTime(begun).TotalMilliseconds;
        output.WriteLine(FormattableString.Invariant($"{captured.CapturedLaunches} kernels, {captured.PeakBytes / 1e9:F2} GB at most, {host:F1} ms"));
        Assert.InRange(captured.CapturedLaunches, 1_000, 5_200);
        Assert.InRange(captured.PeakBytes / 1e9, 0.1, 2.5);
        Assert.Equal((0, 1, 1, 0), (replayed.Launches, replayed.Replays, replayed.ToDevice, replayed.ToHost));
    }

    [LargeCudaTheory]
    [InlineData("Qwen2.5-7B", 4, 2048, 24.0, 26.0, 8_300, 7_250)]
    public void A_large_step_fits(string size, int batchSize, int length, double gigabytes, double withEvaluation, long launches, long fused) =>
        Steps(size, batchSize, length, gigabytes, withEvaluation, launches, fused);

    /// <summary>More than 32 bits count: an allocation, what is cleared and copied of it, and the norm and the step of an optimizer.</summary>
    [CudaFact]
    public void A_vector_of_more_than_4_GB_is_one_piece()
    {
        const int Rows = 300_000, Columns = 4096; // 1.2 billion numbers
        TrainableTensor tensor = new("weight", [Rows, Columns], Decays: true);
        TrainingOptions options = new() { Device = new CudaDevice(), Optimizer = OptimizerKind.Sgd };
        using DeviceMemory device = new(new CudaDevice());
        Optimizer optimizer = Optimizers.Of(options);
        using ParameterSet parameters = new([tensor], optimizer, device: device);
        float[] written = [1, 2, 3], read = new float[3];
        long end = ((long)Rows * Columns) - 3;
        parameters.Values.Write(end, written);
        parameters.Values.Read(end, read);
        Assert.Equal(written, read);
        Assert.Throws<ArgumentOutOfRangeException>(() => parameters.Values.Read(end + 1, read));
        using OptimizerStep step = new(optimizer, parameters, options, device);
        DeviceCounts norm = StandIn.Count(() => step.Norm());
        DeviceCounts counts = StandIn.Count(() => step.Run(1e-3, 1));
        output.WriteLine(FormattableString.Invariant($"{norm.Launches} and {counts.Launches} launches, {counts.PeakBytes / 1e9:F2} GB"));
        Assert.InRange(norm.Launches, 37, 160); // 37 parts
        Assert.InRange(counts.PeakBytes / 1e9, 9.8, 11); // parameters and gradients, and a piece of the step's
    }

    /// <summary>Two layers of a mixture, of which 3.7 GB are weights.</summary>
    [LargeCudaTheory]
    [InlineData("Qwen3-30B-A3B", 1, 2048, "q_proj k_proj v_proj o_proj", 6.6, 8.4, 1_000)]
    [InlineData("Qwen3-30B-A3B", 1, 2048, "all-linear", 8.9, 11.8, 1_300)]
    public void A_step_of_a_mixture_fits(
        string size, int batchSize, int length, string targets, double gigabytes, double withEvaluation, long launches) =>
        Step(size, batchSize, length, gigabytes, withEvaluation, launches, new CudaDevice(), layers: 2, targets);

    private void Steps(string size, int batchSize, int length, double gigabytes, double withEvaluation, long launches, long fused)
    {
        DeviceCounts plain = Step(size, batchSize, length, gigabytes, withEvaluation, launches, new CudaDevice());
        DeviceCounts own = Step(size, batchSize, length, gigabytes, withEvaluation, fused, new CudaDevice { FusedKernels = true });
        Assert.InRange(own.PeakBytes, 1, plain.PeakBytes);
    }

    private DeviceCounts Step(string size, int batchSize, int length, double gigabytes, double withEvaluation, long launches, CudaDevice device,
        int? layers = null, string targets = "all-linear")
    {
        string folder = _folder.File(device.FusedKernels ? "fused" : "base");
        ModelSize model = ModelSize.Find(size);
        new CheckpointWriter(model with { Layers = layers ?? model.Layers }, ElementType.BFloat16) { IsSparse = true }.Write(folder);
        Checkpoint checkpoint = Checkpoint.Open(folder);
        LoraOptions lora = new() { Rank = 16, Dropout = 0, TargetModules = targets == "all-linear" ? TargetModules.AllLinear : targets.Split(' ') };
        TrainingOptions options = new()
        {
            Device = device,
            ComputeType = ComputeType.BFloat16,
            BatchSize = batchSize,
            ActivationCheckpointing = true,
            GradientAccumulationSteps = 1,
        };
        Random random = new(1);
        TrainingRow[] rows = [.. Enumerable.Range(0, batchSize).Select(_ => Row(random, length))];
        TrainingTarget target = TrainingTarget.Lora(checkpoint, lora);
        ChunkPlan plan = TrainingLoop.Plan(checkpoint.Config, [.. rows.Select(row => new[] { row })], [], options, target.MaximumLossChunks);
        double opening = 0;
        TrainingSession? session = null;
        DeviceCounts start = StandIn.Count(() =>
        {
            long begun = Stopwatch.GetTimestamp();
            session = new TrainingSession(target, options, plan);
            opening = Stopwatch.GetElapsedTime(begun).TotalSeconds;
        });
        using (session)
        {
            Batch batch = Batch.Of(rows, plan.Attention);
            session!.Add(batch, 10, 0, default); // the first takes its memory from the system
            DeviceCounts step = StandIn.Count(() => session.Add(batch, 10, 1, default));
            DeviceCounts update = StandIn.Count(() => session.Update(1e-4, 1));
            DeviceCounts evaluation = StandIn.Count(() => session.Evaluate(batch)); // over the same weights
            MemoryEstimate estimate = MemoryEstimate.Of(target, options, plan, [.. rows.Select(row => new[] { row })]);
            output.WriteLine(FormattableString.Invariant(
                $"{size}, {batchSize} x {length}, fused kernels {device.FusedKernels}, plan {plan}: opened in {opening:F1} s, {start.PeakBytes / 1e9:F2} GB; ")
                + FormattableString.Invariant($"a micro-batch {step.Launches} launches, ")
                + FormattableString.Invariant($"{step.ToDevice} copies to the device, {step.ToHost} back, {step.PeakBytes / 1e9:F2} GB at most; ")
                + FormattableString.Invariant($"the optimizer {update.Launches} launches, {update.ToHost} copies back; ")
                + FormattableString.Invariant($"with evaluation {evaluation.PeakBytes / 1e9:F2} GB at most; ")
                + FormattableString.Invariant($"estimated {estimate.Bytes / 1e9:F2} GB at the least"));
            Assert.Equal((2 * checkpoint.Config.NumHiddenLayers) - 1, step.Flash); // the last block is not recomputed
            Assert.Equal(0, step.ToHost);
            Assert.Equal(0, update.ToHost);
            Assert.InRange(step.PeakBytes / 1e9, 0.1, gigabytes);
            Assert.InRange(estimate.Bytes / 1e9, 0.6 * step.PeakBytes / 1e9, step.PeakBytes / 1e9); // refuses what cannot fit, and nothing that can
            Assert.InRange(evaluation.PeakBytes / 1e9, 0.1, withEvaluation);
            Assert.InRange(step.Launches, launches / 2, launches);
            return step;
        }
    }

    /// <summary>What stands between codes and codes is bounded, however many numbers are trained, and nothing comes back.</summary>
    [CudaFact]
    public void A_step_of_8_bit_states_takes_a_piece_s_memory()
    {
        const int Size = OptimizerStep.CodesPieceLength;
        TrainingOptions options = new() { Device = new CudaDevice(), Optimizer = OptimizerKind.AdamW8Bit };
        using DeviceMemory device = new((CudaDevice)options.Device);
        Optimizer optimizer = Optimizers.Of(options);
        (DeviceCounts one, long before) = Count(1);
        (DeviceCounts five, long beforeFive) = Count(5);
        output.WriteLine(FormattableString.Invariant($"{Size} numbers a piece: {(five.Launches - one.Launches) / 4} launches a piece, ")
            + FormattableString.Invariant($"{one.ToDevice} and {five.ToDevice} copies to the device, ")
            + FormattableString.Invariant($"{(one.PeakBytes - before) / 1e6:F1} and {(five.PeakBytes - beforeFive) / 1e6:F1} MB beside the vectors"));
        Assert.Equal((0, 0), (one.ToHost, five.ToHost));
        Assert.InRange((five.Launches - one.Launches) / 4, 30, 64);
        Assert.InRange(one.PeakBytes - before, 1, 34L * Size);
        Assert.Equal(one.PeakBytes - before, five.PeakBytes - beforeFive);

        (DeviceCounts Counts, long Before) Count(int pieces)
        {
            // The last piece is a part of one.
            TrainableTensor[] tensors = [new("w", [pieces, Size], true), new("v", [Size / 3], true)];
            using ParameterSet parameters = new(tensors, optimizer, device: device);
            using OptimizerStep step = new(optimizer, parameters, options, device);
            Assert.Equal(1, StandIn.Count(() => step.Norm()).ToHost);
            long before = StandIn.Count(() => { }).PeakBytes;
            return (StandIn.Count(() => step.Run(1e-3, 1)), before);
        }
    }

    private static TrainingRow Row(Random random, int length)
    {
        int[] ids = [.. Enumerable.Range(0, length).Select(_ => random.Next(1000))];
        return new TrainingRow(ids, [.. ids.Select((id, i) => i < length / 2 ? TrainingRow.Ignore : id)]);
    }
}
