using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests;

namespace MLNetLora.Cuda.Tests;

/// <summary>Answers wholly from the device; the scores of the next token come back.</summary>
public sealed class GenerationPlacementTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Family, weights' type, adapter, and how the weights are held.</summary>
    public static TheoryData<string, string, string, string> Cases
    {
        get
        {
            TheoryData<string, string, string, string> cases = [];
            foreach (string family in (string[])["qwen", "qwen2", "qwen2 sliding", "qwen3", "qwen3_5_text", "qwen2_moe", "qwen3_moe"])
            {
                cases.Add(family, "Float32", "none", "Checkpoint");
                cases.Add(family, "BFloat16", "lora", "Checkpoint");
                cases.Add(family, "Float16", "dora", "Checkpoint");
                cases.Add(family, "Float32", "lora", "Int8");
                cases.Add(family, "BFloat16", "lora", "Int4");
                cases.Add(family, "Float32", "lora", "Nf4");
                cases.Add(family, "BFloat16", "none", "Fp4Double");
            }

            return cases;
        }
    }

    [CudaTheory]
    [MemberData(nameof(Cases))]
    public void Every_number_stays_on_the_device(string family, string type, string adapter, string precision)
    {
        string[] words = family.Split(' ');
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), words[0], type: Enum.Parse<TensorType>(type),
            slidingWindow: words.Length > 1 ? 4 : null, positions: 256);
        bool isMixture = checkpoint.Config.Experts is not null;
        LoraOptions options = new()
        {
            Rank = 2,
            Dropout = 0,
            UseDora = adapter == "dora",
            TargetModules = isMixture && adapter == "dora" ? ["q_proj", "o_proj"] : TargetModules.AllLinear,
            TargetParameters = checkpoint.Config.ModelType == "qwen2_moe" && adapter != "dora"
                ? ["experts.gate_up_proj", "experts.down_proj", "gate.weight"]
                : [],
        };
        LoraAdapter? lora = adapter == "none" ? null : LoraAdapter.Create(options, checkpoint, 1);
        IReadOnlyList<PlacedNode> nodes = Placement.Of(() =>
        {
            using CausalLanguageModel lm = new(checkpoint, lora, precision: Enum.Parse<WeightPrecision>(precision), device: new CudaDevice());
            GenerationOptions generation = new() { MaximumNewTokens = 100 }; // so that the cache grows
            IReadOnlyList<GeneratedIds> answers = lm.Generate([[1, 2, 3], [4, 5, 6, 7, 8]], generation);
            Assert.Equal(2, answers.Count);
        });
        Placement.RequireDevice([.. nodes.Where(node => !node.Graph.StartsWith("dora_norms", StringComparison.Ordinal))]);
    }

    /// <summary>The runtime takes no weights of the process's memory there: it would read the file in their place, without a word.</summary>
    [CudaFact]
    public void A_session_takes_no_weights_of_the_process()
    {
        GraphBuilder graph = new("product");
        Value x = graph.Input("x", ElementType.Float32, "rows", 2);
        graph.Output("y", graph.Gemm(x, graph.External("w", ElementType.Float32, [2, 2], "w", 0, 16)));
        ModelArtifact artifact = new("product.onnx", graph.ToBytes(), _folder.Path);
        using NativeTensor w = Tensors.Of(new float[4], 2, 2);
        Assert.Throws<InvalidOperationException>(
            () => new OnnxSession(artifact, SessionUse.Generation, 1, new Dictionary<string, NativeTensor> { ["w"] = w }, new CudaDevice()));
    }

    [CudaFact]
    public void Only_scores_come_back()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        using CausalLanguageModel lm = new(checkpoint, device: new CudaDevice());
        GenerationOptions options = new() { MaximumNewTokens = 3 };
        DeviceCounts three = StandIn.Count(() => lm.Generate([[1, 2, 3]], options));
        options.MaximumNewTokens = 5;
        DeviceCounts five = StandIn.Count(() => lm.Generate([[1, 2, 3]], options));
        Assert.Equal(3, three.ToHost);
        Assert.Equal(5, five.ToHost);
    }
}
