using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Tests;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Cuda.Tests;

/// <summary>Training wholly on the device.</summary>
public sealed class TrainingPlacementTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>Family, weights' type, how they are held, and what else is trained.</summary>
    public static TheoryData<string, string, string, string> Cases
    {
        get
        {
            TheoryData<string, string, string, string> cases = [];
            foreach (string family in (string[])["qwen", "qwen2", "qwen2 sliding", "qwen3", "qwen3_5_text", "qwen2_moe", "qwen3_moe"])
            {
                foreach (TensorType type in (TensorType[])[TensorType.Float32, TensorType.BFloat16])
                {
                    cases.Add(family, $"{type}", "Checkpoint", "lora");
                }

                cases.Add(family, "Float32", "Checkpoint", family.EndsWith("_moe", StringComparison.Ordinal) ? "experts" : "full");
                cases.Add(family, "Float32", "Checkpoint", "dora");
                cases.Add(family, "Float32", "Checkpoint", "all");
                cases.Add(family, "Float32", "Nf4", "lora");
                cases.Add(family, "Float32", "Fp4Double", "lora");
            }

            return cases;
        }
    }

    [CudaTheory]
    [MemberData(nameof(Cases))]
    public void Every_number_stays_on_the_device(string family, string type, string precision, string trained)
    {
        string[] words = family.Split(' ');
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), words[0], tied: trained != "all", type: Enum.Parse<TensorType>(type),
            slidingWindow: words.Length > 1 ? 4 : null);
        Random random = new(1);
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(_ => TinyModel.Row(random, 9))];
        ChunkPlan chunks = new(2, 3, true, 2, true);
        ChunkPlan flash = chunks with { Flash = true };
        foreach ((ComputeType computeType, bool recomputed, ChunkPlan plan) in (ReadOnlySpan<(ComputeType, bool, ChunkPlan)>)[
            (ComputeType.Float32, false, ChunkPlan.Whole), (ComputeType.Float32, true, chunks),
            (ComputeType.BFloat16, false, ChunkPlan.Whole), (ComputeType.BFloat16, true, chunks), (ComputeType.BFloat16, true, flash),
            (ComputeType.Float16, false, flash), (ComputeType.Float16, true, chunks)])
        {
            TrainingOptions options = new()
            {
                Device = new CudaDevice(),
                BatchSize = 2,
                GradientAccumulationSteps = 2,
                ActivationCheckpointing = recomputed,
                ComputeType = computeType,
                Precision = Enum.Parse<WeightPrecision>(precision),
            };
            IReadOnlyList<PlacedNode> nodes = Placement.Of(() => Train(checkpoint, trained, options, rows, plan));
            Placement.RequireDevice(nodes);
        }
    }

    /// <summary>States in 8 bits are read and written by the graph: nothing comes back to be packed.</summary>
    [CudaTheory]
    [InlineData("lora", 1)]
    [InlineData("lora", 40)] // some tensors keep 32 bits
    [InlineData("full", 1)]
    public void So_do_states_in_8_bits(string trained, int eightBitFrom)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), "qwen2", tied: true, type: TensorType.Float32);
        Random random = new(1);
        TrainingRow[] rows = [.. Enumerable.Range(0, 4).Select(_ => TinyModel.Row(random, 9))];
        TrainingOptions options = new()
        {
            Device = new CudaDevice(),
            BatchSize = 2,
            GradientAccumulationSteps = 2,
            ComputeType = ComputeType.Float32,
            Optimizer = OptimizerKind.AdamW8Bit,
            EightBitFrom = eightBitFrom,
            LoraPlusRatio = trained == "lora" ? 4 : null,
        };
        IReadOnlyList<PlacedNode> nodes = Placement.Of(() => Train(checkpoint, trained, options, rows, ChunkPlan.Whole));
        Placement.RequireDevice(nodes);
        Assert.Equal(eightBitFrom > 1 || trained == "full", nodes.Any(node => IsOf(node, "optimizer_model")));
        PlacedNode[] step = [.. nodes.Where(node => IsOf(node, "optimizer_8bit_model")).DistinctBy(node => node.Node)];
        Assert.Equal(4, step.Count(node => node.Operator == "Gather" && node.OutputTypes is ["uint8"])); // of two states, for lower and upper codes
        Assert.All(step, node => Assert.Equal("CUDA", node.Provider));

        static bool IsOf(PlacedNode node, string model) => node.Graph.StartsWith(model, StringComparison.Ordinal);
    }

    internal static void Train(Checkpoint checkpoint, string trained, TrainingOptions options, TrainingRow[] rows, ChunkPlan plan)
    {
        LoraOptions lora = new()
        {
            Rank = 2,
            Dropout = trained is "dora" or "experts" ? 0 : 0.1,
            TargetModules = checkpoint.Config.Experts is null ? TargetModules.AllLinear : ["q_proj", "o_proj"],
            TargetParameters = trained == "experts" ? ["experts.gate_up_proj", "experts.down_proj", "gate.weight"] : [],
            UseDora = trained == "dora",
            Bias = trained == "all" ? LoraBias.All : LoraBias.None,
            ModulesToSave = trained == "all" ? ["lm_head", checkpoint.Config.ModelType == "qwen" ? "ln_1" : "input_layernorm"] : [],
            TrainableTokenIndices = trained == "dora" ? [2, 5] : [],
        };
        bool isFull = trained == "full";
        TrainingTarget target = isFull ? TrainingTarget.Full(checkpoint.Config) : TrainingTarget.Lora(checkpoint, lora);
        target = Calibration.Prepare(target, options, plan, [.. rows.Select(row => new[] { row })]);
        using TrainingSession session = new(target, options, plan);
        if (!isFull)
        {
            LoraParameters.Load(session.Parameters, LoraTraining.Fresh(lora, checkpoint, options, default));
        }

        Batch batch = Batch.Of(rows[..2], plan.Attention);
        session.Add(batch, 10, 0, default);
        session.Add(batch, 10, 1, default);
        session.TakeLoss();
        session.Step(1e-3, 1);
        session.Evaluate(batch);
    }
}
