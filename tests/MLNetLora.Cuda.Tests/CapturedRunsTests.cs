using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Cuda.Tests;

/// <summary>
/// Micro-batches as CUDA graphs. What is captured is real, and so are the copies in it, which are done again at each launch; of the kernels those of
/// FlashAttention add one to the first gradient, so that it shows how often a micro-batch was added.
/// </summary>
public sealed class CapturedRunsTests : IDisposable
{
    private static readonly CudaDevice s_graphs = new() { Graphs = true };

    private readonly TemporaryFolder _folder = new();

    public void Dispose()
    {
        StandIn.AddTo(0);
        NativeCalls.Before = null;
        _folder.Dispose();
    }

    [CudaTheory]
    [InlineData("qwen3", 0.0)]
    [InlineData("qwen3", 0.1)]
    [InlineData("qwen2 sliding", 0.0)]
    public void A_shape_is_captured_once_and_then_started_with_one_call(string family, double dropout)
    {
        using TrainingSession plain = Open(family, new CudaDevice(), dropout);
        long kernels = StandIn.Count(() => plain.Add(Rows(60), 10, 0, default)).Launches;
        using TrainingSession session = Open(family, s_graphs, dropout);
        List<DeviceCounts> counts = [.. Enumerable.Range(0, 6).Select(i =>
        {
            DeviceCounts added = StandIn.Count(() => session.Add(Rows(i < 4 ? 60 + i : 65), 10, i, default));
            DeviceCounts step = StandIn.Count(() => session.Step(1e-3, i + 1));
            Assert.Equal((0, 0), (step.Captures, step.Replays));
            return added;
        })];

        // The two vectors change roles with each step; 65 tokens are another shape.
        Assert.Equal([1, 1, 0, 0, 1, 1], counts.Select(count => count.Captures));
        Assert.All(counts, count => Assert.Equal((1, 0, 0), (count.Replays, count.CapturedFromHost, count.ToHost)));
        Assert.All(counts.Where(count => count.Captures == 1), count => Assert.Equal(kernels, count.CapturedLaunches));
        Assert.All(counts.Where(count => count.Captures == 0), count => Assert.Equal((0, 1), (count.Launches, count.ToDevice))); // the inputs, in one piece
        DeviceCounts evaluated = StandIn.Count(() => session.Evaluate(Rows(60)));
        Assert.Equal((0, 0), (evaluated.Captures, evaluated.Replays));
    }

    /// <summary>However often the runtime runs a graph while it captures it, gradients are those of one run.</summary>
    [CudaTheory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_capture_adds_a_micro_batch_once(bool graphs)
    {
        using TrainingSession session = Open("qwen3", graphs ? s_graphs : new CudaDevice());
        float[] written = [.. Enumerable.Range(0, (int)session.Parameters.Gradients.Length).Select(i => i + 0.5f)];
        session.Parameters.Gradients.Write(0, written);
        AddToFirst(session);
        for (int i = 1; i <= 3; i++)
        {
            session.Add(Rows(i < 3 ? 20 : 90), 10, i, default); // one is captured, one replayed, one captured
            float[] gradients = Gradients(session);
            Assert.Equal(written[0] + (2 * i), gradients[0]); // two layers
            Assert.Equal(written[1..], gradients[1..]);
        }
    }

    /// <summary>What a graph reads is what was written for this run, and what it writes is where this run wants it.</summary>
    [CudaFact]
    public void Numbers_go_through_a_graph()
    {
        GraphBuilder graph = new("through") { ForCuda = true };
        graph.Output("y", graph.Input("x", ElementType.Float32, "n"));
        graph.Output("loss", graph.Input("w", ElementType.Float32));
        using DeviceMemory device = new(s_graphs);
        using OnnxSession session = new(new ModelArtifact("through.onnx", graph.ToBytes(), null), SessionUse.Training, 1, device: s_graphs, captures: true);
        using CapturedRuns runs = new(session, device);
        using FloatBuffer gradients = new(3, device: device);
        using FloatBuffer losses = new(6, device: device);
        for (int i = 0; i < 6; i++)
        {
            int count = 1 + (i % 3);
            float[] numbers = [.. Enumerable.Range(0, count).Select(n => (10f * i) + n)];
            using NativeTensor x = Tensors.Of(numbers, count);
            using NativeTensor w = Tensors.Of([i + 0.25f]);
            DeviceCounts counts = StandIn.Count(() => runs.Run(new() { ["x"] = x, ["w"] = w }, new() { ["y"] = gradients.View(0, [count]) }, gradients,
                new LossSlot(losses, i, losses.View(i, [])), default));
            Assert.Equal(i < 3 ? 1 : 0, counts.Captures);
            float[] read = new float[count];
            gradients.Read(0, read);
            Assert.Equal(numbers, read);
        }

        float[] all = new float[6];
        losses.Read(0, all);
        Assert.Equal([0.25f, 1.25f, 2.25f, 3.25f, 4.25f, 5.25f], all);
    }

    [CudaFact]
    public void Inputs_are_written_whole_and_where_the_graph_reads_them()
    {
        using DeviceMemory device = new(s_graphs);
        using NativeTensor ids = Tensors.Of([1L, 2, 3, 4], 2, 2);
        using NativeTensor weights = Tensors.Of([0.5f, 0.25f], 2);
        using NativeTensor size = Tensors.Of([7L], 1);
        Dictionary<string, NativeTensor> inputs = new() { ["ids"] = ids, ["size"] = size, ["weights"] = weights };
        using CapturedRun run = new(1, inputs.Where(input => input.Key != "size"), device);
        NativeTensor[] there = run.Inputs(inputs);
        run.Write(inputs);
        Assert.Same(size, there[1]);
        Assert.True(there[0].IsOnDevice && there[2].IsOnDevice);
        Assert.Equal([1L, 2, 3, 4], there[0].Span<long>().ToArray());
        Assert.Equal([2L, 2], there[0].Kind().Shape);
        Assert.Equal([0.5f, 0.25f], there[2].Span<float>().ToArray());
    }

    [CudaFact]
    public void Beyond_so_many_shapes_micro_batches_run_without_graphs()
    {
        using TrainingSession session = Open("qwen3", s_graphs);
        AddToFirst(session);
        for (int rows = 1; rows <= CapturedRuns.Most + 2; rows++)
        {
            DeviceCounts counts = StandIn.Count(() => session.Add(Rows(8, rows), 10, rows, default));
            Assert.Equal(rows <= CapturedRuns.Most ? 1 : 0, counts.Captures);
            Assert.Equal(2 * rows, Gradients(session)[0]);
        }

        DeviceCounts again = StandIn.Count(() => session.Add(Rows(8, 1), 10, 0, default));
        Assert.Equal((0, 1), (again.Launches, again.Replays));
    }

    /// <summary>The runtime keeps the graphs of each thread apart.</summary>
    [CudaFact]
    public void Another_thread_has_graphs_of_its_own()
    {
        using TrainingSession session = Open("qwen3", s_graphs);
        AddToFirst(session);
        session.Add(Rows(8), 10, 0, default);
        Thread other = new(() => session.Add(Rows(8), 10, 1, default));
        other.Start();
        other.Join();
        session.Add(Rows(8), 10, 2, default);
        Assert.Equal(6, Gradients(session)[0]);
    }

    /// <summary>CUDA refuses copies and waiting to all threads while one captures: they wait for each other.</summary>
    [CudaFact]
    public void Who_uses_the_device_beside_a_capture_waits_for_it()
    {
        using TrainingSession session = Open("qwen3", s_graphs);
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("answers"));
        bool ends = false;
        Task others = Task.WhenAll(Enumerable.Range(0, 3).Select(_ => Task.Run(() =>
        {
            while (!Volatile.Read(ref ends))
            {
                using CausalLanguageModel lm = new(checkpoint, device: new CudaDevice());
                lm.Generate([[1, 2, 3]], new GenerationOptions { MaximumNewTokens = 20 });
            }
        })));
        DeviceCounts counts = StandIn.Count(() =>
        {
            for (int length = 8; length < 8 + (20 * 64); length += 64)
            {
                session.Add(Rows(length), 10, 0, default);
            }
        });
        Volatile.Write(ref ends, true);
        others.GetAwaiter().GetResult();
        Assert.InRange(counts.Captures, 10, 20);
    }

    [CudaFact]
    public void A_capture_that_fails_leaves_the_micro_batch_and_is_made_anew()
    {
        using TrainingSession session = Open("qwen3", s_graphs);
        AddToFirst(session);
        StandIn.LoseCapture();
        MLNetLoraException error = Assert.Throws<MLNetLoraException>(() => session.Add(Rows(8), 10, 0, default));
        Assert.Contains("Set CudaDevice.Graphs to false", error.Message, StringComparison.Ordinal);
        Assert.Contains("cudaErrorStreamCaptureInvalidated", error.Message, StringComparison.Ordinal);
        Assert.Equal(2, Gradients(session)[0]);
        Assert.Equal(1, StandIn.Count(() => session.Add(Rows(8), 10, 1, default)).Captures);
        Assert.Equal(4, Gradients(session)[0]);
        Assert.Equal((0, 1), Replayed(StandIn.Count(() => session.Add(Rows(8), 10, 2, default))));
        Assert.Equal(6, Gradients(session)[0]);
    }

    [CudaFact]
    public void Cancelled_while_kernels_are_captured_it_is_made_anew()
    {
        using TrainingSession session = Open("qwen3", s_graphs);
        AddToFirst(session);
        using CancellationTokenSource source = new();
        int runs = 0;
        NativeCalls.Before = kind => runs += kind == "run" ? 1 : 0;
        session.Add(Rows(8), 10, 0, source.Token);
        runs = 0;
        session.Add(Rows(65), 10, 0, source.Token);
        int last = runs; // is the one that captures
        runs = 0;
        NativeCalls.Before = kind =>
        {
            runs += kind == "run" ? 1 : 0;
            if (runs == last)
            {
                source.Cancel();
            }
        };
        Assert.ThrowsAny<OperationCanceledException>(() => session.Add(Rows(130), 10, 1, source.Token));
        NativeCalls.Before = null;
        session.Skip();
        session.Parameters.Gradients.Write(0, [0f]); // a kernel that clears does nothing here
        Assert.Equal(1, StandIn.Count(() => session.Add(Rows(130), 10, 2, default)).Captures);
        Assert.Equal((0, 1), Replayed(StandIn.Count(() => session.Add(Rows(130), 10, 3, default))));
        Assert.Equal((0, 1), Replayed(StandIn.Count(() => session.Add(Rows(8), 10, 4, default))));
        Assert.Equal(6, Gradients(session)[0]);
        Assert.ThrowsAny<OperationCanceledException>(() => session.Add(Rows(8), 10, 5, source.Token));
    }

    [CudaFact]
    public void Nothing_is_left_when_the_session_has_gone()
    {
        long before = StandIn.Count(() => { }).Bytes;
        using (TrainingSession session = Open("qwen3", s_graphs))
        {
            session.Add(Rows(8), 10, 0, default);
            session.Add(Rows(600), 10, 1, default); // longer tables of rotations
            session.Add(Rows(8), 10, 2, default);
        }

        Assert.Equal(before, StandIn.Count(() => { }).Bytes);
        Assert.Throws<ObjectDisposedException>(() =>
        {
            TrainingSession gone = Open("qwen3", s_graphs);
            gone.Add(Rows(8), 10, 0, default);
            gone.Dispose();
            gone.Add(Rows(8), 10, 1, default);
        });
    }

    /// <summary>Every method and precision: a graph has nothing that could not be captured.</summary>
    [CudaTheory]
    [InlineData("lora", "Checkpoint")]
    [InlineData("full", "Checkpoint")]
    [InlineData("dora", "Checkpoint")]
    [InlineData("all", "Checkpoint")]
    [InlineData("lora", "Nf4")]
    [InlineData("lora", "Fp4Double")]
    public void Whatever_is_trained_is_captured(string trained, string precision)
    {
        foreach (string family in (string[])["qwen", "qwen2", "qwen2 sliding", "qwen3"])
        {
            string[] words = family.Split(' ');
            Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File($"{family} {trained}"), words[0], tied: trained != "all",
                slidingWindow: words.Length > 1 ? 4 : null);
            Random random = new(1);
            TrainingRow[] rows = [.. Enumerable.Range(0, 2).Select(_ => TinyModel.Row(random, 9))];
            ChunkPlan chunks = new(2, 3, true, 2, true);
            foreach ((ComputeType type, bool recomputed, ChunkPlan plan) in (ReadOnlySpan<(ComputeType, bool, ChunkPlan)>)[
                (ComputeType.Float32, true, chunks), (ComputeType.BFloat16, false, ChunkPlan.Whole), (ComputeType.BFloat16, true, chunks with { Flash = true }),
                (ComputeType.Float16, true, chunks)])
            {
                TrainingOptions options = new()
                {
                    Device = s_graphs,
                    BatchSize = 2,
                    ActivationCheckpointing = recomputed,
                    ComputeType = type,
                    Precision = Enum.Parse<WeightPrecision>(precision),
                };
                IReadOnlyList<PlacedNode> nodes = [];
                DeviceCounts counts = StandIn.Count(
                    () => nodes = Placement.Of(() => TrainingPlacementTests.Train(checkpoint, trained, options, rows, plan)));
                Assert.True((1, 2, 0) == (counts.Captures, counts.Replays, counts.CapturedFromHost), $"{family} {type} {plan}: {counts}");
                Placement.RequireDevice(nodes);
            }
        }
    }

    private static (long Launches, long Replays) Replayed(DeviceCounts counts) => (counts.Launches, counts.Replays);

    private static void AddToFirst(TrainingSession session)
    {
        StandIn.Count(() => { }); // says which kernels
        StandIn.AddTo(session.Parameters.View(session.Parameters.Gradients, session.Parameters.Tensors[0].Name).Address);
    }

    private static float[] Gradients(TrainingSession session)
    {
        float[] gradients = new float[session.Parameters.Gradients.Length];
        session.Parameters.Gradients.Read(0, gradients);
        return gradients;
    }

    private static Batch Rows(int length, int rows = 2)
    {
        Random random = new(length);
        return Batch.Of(Enumerable.Range(0, rows).Select(_ => TinyModel.Row(random, length)));
    }

    private TrainingSession Open(string family, CudaDevice device, double dropout = 0)
    {
        string[] words = family.Split(' ');
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File($"{family} {device.Graphs}"), words[0], type: TensorType.BFloat16,
            slidingWindow: words.Length > 1 ? 4 : null, positions: 2048);
        LoraOptions lora = new() { Rank = 2, Dropout = dropout, TargetModules = TargetModules.AllLinear };
        TrainingOptions options = new() { Device = device, BatchSize = 2 };
        return new TrainingSession(TrainingTarget.Lora(checkpoint, lora), options, ChunkPlan.Whole with { Flash = true });
    }
}
