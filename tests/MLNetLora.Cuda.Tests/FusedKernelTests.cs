using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;
using MLNetLora.Tests;
using MLNetLora.Tests.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Cuda.Tests;

/// <summary>Kernels of the library's own in sessions of the provider. The stand-in does those on the processor, from the same code.</summary>
public sealed class FusedKernelTests : IDisposable
{
    private static readonly CudaDevice s_fused = new() { FusedKernels = true };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, int, int> Cases
    {
        get
        {
            TheoryData<string, int, int> cases = [];
            foreach (FusedKernel kernel in FusedKernel.All)
            {
                foreach ((int rows, int columns) in (ReadOnlySpan<(int, int)>)[(1, 7), (5, 64), (2, 896)])
                {
                    cases.Add(kernel.Function, rows, columns);
                }
            }

            return cases;
        }
    }

    /// <summary>Each kernel is given its own tensors in their order, and what it computes comes out.</summary>
    [CudaTheory]
    [MemberData(nameof(Cases))]
    public void A_node_computes_its_formula(string function, int rows, int columns)
    {
        FusedCase item = new(FusedKernel.All.Single(kernel => kernel.Function == function), rows, columns);
        using OnnxSession session = FusedNode.Session(item.Kernel, s_fused);
        DeviceCounts counts = StandIn.Count(() => FusedNode.Run(session, item));
        Assert.Equal(1, counts.Launches);
    }

    [CudaFact]
    public void Nodes_run_on_several_threads_in_several_sessions()
    {
        Parallel.For(0, 16, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i =>
        {
            FusedCase item = new(FusedKernel.All[i % FusedKernel.All.Count], 3, 40 + i);
            using OnnxSession session = FusedNode.Session(item.Kernel, s_fused);
            FusedNode.Run(session, item);
            FusedNode.Run(session, item);
        });
    }

    [CudaFact]
    public void Nothing_of_no_rows_is_started()
    {
        foreach (FusedKernel kernel in FusedKernel.All)
        {
            FusedCase item = new(kernel, 0, 8);
            using OnnxSession session = FusedNode.Session(kernel, s_fused);
            Assert.Equal(0, StandIn.Count(() => FusedNode.Run(session, item)).Launches);
        }
    }

    [CudaFact]
    public void Tensors_that_do_not_belong_together_are_refused()
    {
        FusedCase item = new(FusedKernel.All.Single(kernel => kernel.Function == "rms_norm_grad_float32"), 4, 8);
        item.Inputs[2] = item.Inputs[2][..7];
        using OnnxSession session = FusedNode.Session(item.Kernel, s_fused);
        Assert.Contains("Input 2 of RmsNormGrad has 7 numbers, not 8.",
            Assert.Throws<MLNetLoraException>(() => FusedNode.Run(session, item, [[4, 8], [4, 8], [7], [4, 1]])).Message, StringComparison.Ordinal);
    }

    [CudaFact]
    public void What_the_driver_says_of_a_launch_is_told()
    {
        FusedCase item = new(FusedKernel.All[0], 4, 8);
        using OnnxSession session = FusedNode.Session(item.Kernel, s_fused);
        StandIn.RefuseLaunches(701, () => Assert.Contains("swiglu_float32 was not started with 1 blocks of 256 threads. cuLaunchKernel returned 701, "
            + "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES.", Assert.Throws<MLNetLoraException>(() => FusedNode.Run(session, item)).Message, StringComparison.Ordinal));
        StandIn.RefuseLaunches(2, () => Assert.Throws<NativeMemoryException>(() => FusedNode.Run(session, item)));
        FusedNode.Run(session, item); // goes on
    }

    /// <summary>The graph of a device without the option, or of another library, does not find them.</summary>
    [CudaFact]
    public void A_session_without_the_option_has_no_such_operators()
    {
        MLNetLoraException error = Assert.Throws<MLNetLoraException>(() => FusedNode.Session(FusedKernel.All[0], new CudaDevice()));
        Assert.Contains("mlnetlora", error.Message, StringComparison.Ordinal);
    }

    [CudaTheory]
    [InlineData("qwen")]
    [InlineData("qwen2")]
    [InlineData("qwen3")]
    [InlineData("qwen3_5_text")]
    public void Training_stays_on_the_device_with_fewer_kernels(string family)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), family, type: TensorType.BFloat16);
        Random random = new(1);
        TrainingRow[] rows = [.. Enumerable.Range(0, 2).Select(_ => TinyModel.Row(random, 9))];
        foreach (string trained in (string[])["lora", "one", "full"])
        {
            foreach ((ComputeType type, bool recomputed, ChunkPlan plan) in (ReadOnlySpan<(ComputeType, bool, ChunkPlan)>)[
                (ComputeType.Float32, false, ChunkPlan.Whole), (ComputeType.BFloat16, true, new ChunkPlan(2, 3, true, 2, true, Flash: true)),
                (ComputeType.Float16, true, new ChunkPlan(2, 3, true, 2, true))])
            {
                IReadOnlyList<PlacedNode> nodes = [];
                DeviceCounts plain = StandIn.Count(() => Train(new CudaDevice()));
                DeviceCounts fused = StandIn.Count(() => nodes = Placement.Of(() => Train(s_fused)));
                Placement.RequireDevice(nodes);
                foreach (string name in (string[])[FusedOperators.SwiGlu, FusedOperators.SwiGluGrad, FusedOperators.RmsNormGrad])
                {
                    Assert.Contains(nodes, node => node.Operator == name && node.Provider == "CUDA");
                }

                Assert.InRange(fused.Launches, 1, plain.Launches - 10);

                void Train(CudaDevice device)
                {
                    TrainingOptions options = new() { Device = device, BatchSize = 2, ActivationCheckpointing = recomputed, ComputeType = type };
                    LoraOptions lora = new() { Rank = 2, TargetModules = trained == "one" ? UpAlone(family) : TargetModules.AllLinear };
                    TrainingTarget target = trained == "full" ? TrainingTarget.Full(checkpoint.Config) : TrainingTarget.Lora(checkpoint, lora);
                    using TrainingSession session = new(target, options, plan);
                    Batch batch = Batch.Of(rows, plan.Attention);
                    session.Add(batch, 10, 0, default);
                    session.Evaluate(batch);
                }
            }
        }
    }

    [CudaFact]
    public void So_do_answers()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), "qwen2");
        Assert.InRange(Launches(s_fused), 1, Launches(new CudaDevice()) - 10);

        long Launches(CudaDevice device)
        {
            using CausalLanguageModel lm = new(checkpoint, device: device);
            return StandIn.Count(() => lm.Generate([[1, 2, 3]], new GenerationOptions { MaximumNewTokens = 4 })).Launches;
        }
    }

    // In the first block nothing but up is trained, and the gradient of gate is not wanted.
    private static TargetModules UpAlone(string family) => family == "qwen" ? (string[])["w1"] : (string[])["up_proj"];
}
