using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Proto;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Artifacts;

/// <summary>Every node of every graph for a GPU has a kernel in ONNX Runtime's CUDA provider, one that needs no cuDNN: looked up in a list, on any machine.
/// tests/MLNetLora.Cuda.Tests run the same graphs on the provider itself.</summary>
public sealed class CudaKernelTests : IDisposable
{
    private const string Floats = "Float32 Float16 BFloat16";
    private const string Numbers = "Float32 Float16 BFloat16 Int64 Int32 Float64";
    private const string Any = "Float32 Float16 BFloat16 Int64 Int32 Float64 Bool UInt8 UInt16";

    /// <summary>
    /// Operator → types of its first input with a kernel in Microsoft.ML.OnnxRuntime.Gpu 1.31.0, at opset 18. What is not here has none, has one that runs
    /// with cuDNN alone (ReduceMax, ReduceMin), or one that is slow or warns (ScatterND). Scan and Loop run their bodies' kernels.
    /// </summary>
    private static readonly Dictionary<string, string> s_kernels = new()
    {
        ["Add"] = Numbers,
        ["Sub"] = Numbers,
        ["Mul"] = Numbers,
        ["Div"] = Numbers,
        ["Min"] = Numbers,
        ["Max"] = Numbers,
        ["Neg"] = Numbers,
        ["Abs"] = Numbers,
        ["Sqrt"] = Floats,
        ["Exp"] = Floats,
        ["Sigmoid"] = Floats,
        ["Attention"] = "Float16 BFloat16",
        ["Softmax"] = Floats,
        ["Gemm"] = Floats,
        ["Sign"] = Numbers,
        ["Log"] = "Float32 Float16",
        ["Reciprocal"] = "Float32 Float16",
        ["Softplus"] = "Float32 Float16",
        ["CumSum"] = "Float32 Float16 Int64 Float64",
        ["GreaterOrEqual"] = "Float32 Float16 Int64",
        ["Equal"] = "Float32 Float16 Int64 Bool",
        ["And"] = "Bool",
        ["ReduceSum"] = Numbers,
        ["ReduceMean"] = Floats,
        ["ReduceSumSquare"] = "Float32 Float16",
        ["ArgMax"] = "Float32 Float16",
        ["Cast"] = Any,
        ["Greater"] = "Float32 Float16 Int64 Int32",
        ["Where"] = "Bool",
        ["Expand"] = Any,
        ["Concat"] = Any,
        ["Split"] = Any,
        ["Slice"] = Any,
        ["Gather"] = Any,
        ["GatherElements"] = Any,
        ["Transpose"] = Any,
        ["Reshape"] = Any,
        ["Unsqueeze"] = Any,
        ["Identity"] = Any,
        ["Shape"] = Any,
        ["ConstantOfShape"] = "Int64",
        ["Range"] = "Int64",
        ["TopK"] = "Float32 Int64",
        ["ScatterElements"] = "Float32 Float16 BFloat16 Int64",
        ["SimplifiedLayerNormalization"] = Floats,
        ["Scan"] = Floats,
        ["com.microsoft.FusedMatMul"] = Floats,
        ["com.microsoft.QuickGelu"] = Floats,
        ["com.microsoft.RotaryEmbedding"] = Floats,
        ["com.microsoft.GroupQueryAttention"] = "Float16 BFloat16",
        ["com.microsoft.MatMulBnb4"] = Floats,
        ["com.microsoft.MatMulNBits"] = Floats,
        ["com.microsoft.LinearAttention"] = Floats,
        ["mlnetlora.SwiGlu"] = Floats, // these are the library's own
        ["mlnetlora.SwiGluGrad"] = Floats,
        ["mlnetlora.RmsNormGrad"] = Floats,
    };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qwen")]
    [InlineData("qwen2")]
    [InlineData("qwen3")]
    [InlineData("qwen3_5_text")]
    [InlineData("qwen2_moe")]
    [InlineData("qwen3_moe")]
    public void Every_node_of_training_has_a_kernel(string family)
    {
        foreach (TensorType stored in (TensorType[])[TensorType.Float32, TensorType.BFloat16, TensorType.Float16])
        {
            Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File($"{stored}"), family, type: stored, slidingWindow: family == "qwen2" ? 4 : null);
            LoraOptions lora = new()
            {
                Rank = 2,
                Dropout = 0.1,
                TargetModules = TargetModules.AllLinear,
                Bias = LoraBias.All,
                TrainableTokenIndices = [2, 5],
            };
            bool isMixture = checkpoint.Config.Experts is not null;
            LoraOptions dora = new() { Rank = 2, Dropout = 0, TargetModules = isMixture ? ["q_proj", "o_proj"] : TargetModules.AllLinear, UseDora = true };
            LoraOptions experts = new() { Rank = 2, Dropout = 0, TargetParameters = ["experts.gate_up_proj", "experts.down_proj", "gate.weight"] };
            foreach (TrainingTarget target in (TrainingTarget[])[
                TrainingTarget.Lora(checkpoint, isMixture ? lora.With(o => o.TargetModules = ["q_proj", "o_proj"]) : lora),
                TrainingTarget.Lora(checkpoint, dora),
                isMixture ? TrainingTarget.Lora(checkpoint, experts) : TrainingTarget.Full(checkpoint.Config)])
            {
                foreach (ComputeType type in Enum.GetValues<ComputeType>())
                {
                    ChunkPlan plan = new(2, 3, true, 2, Flash: type != ComputeType.Float32);
                    foreach (bool fused in (bool[])[false, true])
                    {
                        TrainingOptions options = new() { Device = new CudaDevice { FusedKernels = fused }, ComputeType = type };
                        Look(TrainingModel.Training(target, checkpointing: true, plan, options.NewGraph("training")), fused);
                        Look(TrainingModel.Evaluation(target, plan, graph: options.NewGraph("evaluation")),
                            fused && family != "qwen3_moe"); // of which every block has experts, which stay as they are
                    }
                }
            }
        }
    }

    [Fact]
    public void So_has_every_node_of_optimizers_that_a_GPU_takes()
    {
        Look(OptimizerModel.Norm(3));
        Look(OptimizerModel.Norm(3, isScaled: true));
        foreach (OptimizerKind kind in Enum.GetValues<OptimizerKind>())
        {
            Look(OptimizerModel.Step(Optimizers.Of(new TrainingOptions { Optimizer = kind })));
        }

        Look(OptimizerModel.EightBitStep(Optimizers.Of(new TrainingOptions { Optimizer = OptimizerKind.AdamW8Bit })));
    }

    [Theory]
    [InlineData("qwen")]
    [InlineData("qwen2")]
    [InlineData("qwen3")]
    [InlineData("qwen3_5_text")]
    [InlineData("qwen2_moe")]
    [InlineData("qwen3_moe")]
    public void So_has_every_node_of_answers(string family)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), family);
        LoraOptions dora = checkpoint.Config.Experts is null
            ? new() { Rank = 2, TargetModules = TargetModules.AllLinear, UseDora = true }
            : new() { Rank = 2, Dropout = 0, TargetParameters = ["experts.gate_up_proj", "experts.down_proj", "gate.weight"] };
        LoraAdapter adapter = LoraAdapter.Create(dora, checkpoint, 1);
        foreach (ElementType type in (ElementType[])[ElementType.BFloat16, ElementType.Float16])
        {
            foreach (BlockWeights? blocks in (BlockWeights?[])[
                null, new BlockWeights(checkpoint, WeightPrecision.Int8, type), new BlockWeights(checkpoint, WeightPrecision.Int4, type)])
            {
                Look(InferenceModel.Build(checkpoint, adapter.Parts, blocks, new GraphBuilder("inference") { ForCuda = true, ComputeType = type }));
            }
        }
    }

    [Fact]
    public void A_graph_for_processors_is_told_apart()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        TrainingTarget target = TrainingTarget.Lora(checkpoint, new LoraOptions { Rank = 2 });
        Assert.Contains("ReduceMax", Assert.ThrowsAny<Xunit.Sdk.XunitException>(
            () => Look(TrainingModel.Training(target, checkpointing: false, ChunkPlan.Whole))).Message, StringComparison.Ordinal);
        Assert.Contains("GroupQueryAttention", Assert.ThrowsAny<Xunit.Sdk.XunitException>(
            () => Look(InferenceModel.Build(checkpoint, new AdapterParts([], [], null)))).Message, StringComparison.Ordinal);
    }

    private static void Look(ModelArtifact artifact, bool fused = false)
    {
        ModelProto model = ModelProto.Parser.ParseFrom(artifact.Bytes);
        GraphProto graph = model.Graph;
        Assert.Empty(model.Functions); // they would be run in the kernels' place
        Assert.Equal(fused, graph.Node.Any(node => node.Domain == "mlnetlora"));
        List<string> without = [];
        Look(graph, without);
        Assert.True(without.Count == 0, $"{artifact.Name} has nodes without a kernel: {string.Join("; ", without.Distinct())}");
    }

    private static void Look(GraphProto graph, List<string> without)
    {
        Dictionary<string, ElementType> types = graph.Input.Concat(graph.ValueInfo).Concat(graph.Output)
            .ToDictionary(info => info.Name, info => (ElementType)info.Type.TensorType.ElemType);
        foreach (TensorProto tensor in graph.Initializer)
        {
            types[tensor.Name] = (ElementType)tensor.DataType;
        }

        foreach (NodeProto node in graph.Node)
        {
            string name = node.Domain.Length == 0 ? node.OpType : $"{node.Domain}.{node.OpType}";
            ElementType type = types[node.Input[0]];
            if (!s_kernels.TryGetValue(name, out string? known) || !known.Split(' ').Contains($"{type}"))
            {
                without.Add($"{name} of {type}");
            }

            foreach (AttributeProto attribute in node.Attribute.Where(attribute => attribute.G is not null))
            {
                Look(attribute.G, without);
            }
        }
    }
}
