using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests;

namespace MLNetLora.Cuda.Tests;

/// <summary>Answers wholly from the device; the scores of the next token come back.</summary>
public sealed class GenerationPlacementTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    public static TheoryData<string, string, string> Cases
    {
        get
        {
            TheoryData<string, string, string> cases = [];
            foreach (string family in (string[])["qwen", "qwen2", "qwen2 sliding", "qwen3"])
            {
                cases.Add(family, "Float32", "none");
                cases.Add(family, "BFloat16", "lora");
                cases.Add(family, "Float16", "dora");
            }

            return cases;
        }
    }

    [CudaTheory]
    [MemberData(nameof(Cases))]
    public void Every_number_stays_on_the_device(string family, string type, string adapter)
    {
        string[] words = family.Split(' ');
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), words[0], type: Enum.Parse<TensorType>(type),
            slidingWindow: words.Length > 1 ? 4 : null, positions: 256);
        LoraAdapter? lora = adapter == "none" ? null
            : LoraAdapter.Create(new LoraOptions { Rank = 2, UseDora = adapter == "dora", TargetModules = TargetModules.AllLinear }, checkpoint, 1);
        IReadOnlyList<PlacedNode> nodes = Placement.Of(() =>
        {
            using CausalLanguageModel lm = new(checkpoint, lora, device: new CudaDevice());
            GenerationOptions options = new() { MaximumNewTokens = 100 }; // so that the cache grows
            IReadOnlyList<GeneratedIds> answers = lm.Generate([[1, 2, 3], [4, 5, 6, 7, 8]], options);
            Assert.Equal(2, answers.Count);
        });
        Placement.RequireDevice([.. nodes.Where(node => !node.Graph.StartsWith("dora_norms", StringComparison.Ordinal))]);
    }

    /// <summary>The runtime takes no weights of the process's memory there: it would read the file in their place, without a word.</summary>
    [CudaTheory]
    [InlineData(WeightPrecision.Int8)]
    [InlineData(WeightPrecision.Int4)]
    [InlineData(WeightPrecision.Nf4)]
    public void Weights_that_are_quantized_here_are_refused(WeightPrecision precision)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        OptionException error = Assert.Throws<OptionException>(() => new CausalLanguageModel(checkpoint, precision: precision, device: new CudaDevice()));
        Assert.StartsWith($"Answers with WeightPrecision.{precision} are computed on the processor only for now", error.Message, StringComparison.Ordinal);
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
