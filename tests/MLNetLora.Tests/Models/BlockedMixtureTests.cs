using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Models;

/// <summary>Experts in blocks, as a GPU computes them, against one after the other.</summary>
public sealed class BlockedMixtureTests(Xunit.Abstractions.ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("qwen2_moe", "none", 2)]
    [InlineData("qwen2_moe", "lora", 2)]
    [InlineData("qwen3_moe", "lora", 2)]
    [InlineData("qwen3_moe", "lora", 1)]
    [InlineData("qwen3_moe", "lora", 7)] // every expert
    public void Answers_are_the_same(string modelType, string adapted, int perToken)
    {
        Checkpoint checkpoint = MixtureModel.Write(_folder.File("base"), modelType, ("num_experts_per_tok", perToken));
        using LogitsOf one = new(checkpoint, adapted == "none" ? null : Adapter(checkpoint), inBlocks: false);
        using LogitsOf blocks = new(checkpoint, adapted == "none" ? null : Adapter(checkpoint), inBlocks: true);
        Random random = new(3);
        foreach (int[] lengths in (int[][])[[1], [5], [40, 3, 17], [9, 9]]) // of prompts; more and fewer assignments than experts
        {
            int[][] prompts = [.. lengths.Select(length => Enumerable.Range(0, length).Select(_ => random.Next(TinyModel.Vocabulary)).ToArray())];
            float[][] expected = one.Run(prompts, steps: 4);
            float[][] actual = blocks.Run(prompts, steps: 4);
            Assert.All(expected.Zip(actual), pair => Assert.InRange(GoldenFile.RelativeError(pair.Second, pair.First), 0, 1e-5));
        }
    }

    /// <summary>Labels are padded to a multiple of the loss's parts, so the last block may have more rows than there are tokens, all for the same experts.
    /// </summary>
    [Theory]
    [InlineData(3, 32)]
    [InlineData(3, 64)]
    [InlineData(60, 64)]
    public void Padded_labels_take_no_place_from_the_others(int length, int lossChunks)
    {
        Checkpoint checkpoint = MixtureModel.Write(_folder.File("base"), "qwen3_moe", ("num_experts_per_tok", 2));
        ChunkPlan plan = ChunkPlan.Whole with { Loss = lossChunks };
        float[] expected = Gradients(checkpoint, length, new TrainingOptions(), plan);
        float[] actual = Gradients(checkpoint, length, new TrainingOptions { ExpertsInBlocks = true, ActivationCheckpointing = true }, plan);
        Assert.InRange(GoldenFile.RelativeError(actual, expected), 0, 1e-5);
    }

    [Theory]
    [InlineData("qwen2_moe", 2, false)]
    [InlineData("qwen3_moe", 2, true)]
    [InlineData("qwen3_moe", 1, false)]
    [InlineData("qwen3_moe", 7, true)]
    public void Gradients_are_the_same(string modelType, int perToken, bool recomputed)
    {
        Checkpoint checkpoint = MixtureModel.Write(_folder.File("base"), modelType, ("num_experts_per_tok", perToken));
        foreach (int length in (ReadOnlySpan<int>)[3, 60])
        {
            float[] expected = Gradients(checkpoint, length, new TrainingOptions { ActivationCheckpointing = recomputed });
            float[] actual = Gradients(checkpoint, length, new TrainingOptions { ActivationCheckpointing = recomputed, ExpertsInBlocks = true });
            Assert.Contains(expected, value => value != 0);
            Assert.InRange(GoldenFile.RelativeError(actual, expected), 0, 1e-5);
        }
    }

    /// <summary>Every expert for every token: which are chosen depends on no rounding.</summary>
    [Theory]
    [InlineData("qwen2_moe", ComputeType.BFloat16, false)]
    [InlineData("qwen3_moe", ComputeType.BFloat16, true)]
    [InlineData("qwen2_moe", ComputeType.Float16, true)]
    [InlineData("qwen3_moe", ComputeType.Float16, false)]
    public void Gradients_in_16_bits_are_near_to_those_in_32(string modelType, ComputeType type, bool recomputed)
    {
        Checkpoint checkpoint = MixtureModel.Write(_folder.File("base"), modelType, ("num_experts_per_tok", 7));
        float[] expected = Gradients(checkpoint, 30, new TrainingOptions());
        float[] actual = Gradients(checkpoint, 30, new TrainingOptions
        {
            ActivationCheckpointing = recomputed,
            ExpertsInBlocks = true,
            ComputeType = type,
            SimulatesComputeType = true,
        });
        double error = GoldenFile.RelativeError(actual, expected);
        output.WriteLine(FormattableString.Invariant($"{modelType} {type}: {error:E2}"));
        Assert.InRange(error, 1e-5, type == ComputeType.Float16 ? 0.01 : 0.05);
    }

    private static LoraAdapter Adapter(Checkpoint checkpoint)
    {
        LoraAdapter adapter = LoraAdapter.Create(Lora(checkpoint), checkpoint, 1);
        Random random = new(2);
        foreach ((_, float[] values) in adapter.Tensors)
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] += (random.NextSingle() - 0.5f) / 5; // B begins as zero
            }
        }

        return adapter;
    }

    private static LoraOptions Lora(Checkpoint checkpoint) => new()
    {
        Rank = 2,
        Dropout = 0,
        TargetModules = TargetModules.AllLinear,
        TargetParameters = checkpoint.Config.ModelType == "qwen2_moe" ? ["experts.gate_up_proj", "experts.down_proj", "gate.weight"] : [],
    };

    private static float[] Gradients(Checkpoint checkpoint, int length, TrainingOptions options, ChunkPlan? plan = null)
    {
        Random random = new(5);
        TrainingRow[] rows = [TinyModel.Row(random, length), TinyModel.Row(random, length - 1)];
        options.Threads = 1;
        using TrainingSession session = new(TrainingTarget.Lora(checkpoint, Lora(checkpoint)), options, plan ?? ChunkPlan.Whole);
        LoraParameters.Load(session.Parameters, Adapter(checkpoint));
        Batch batch = Batch.Of(rows);
        session.Accumulate(batch, batch.LabelIds.Length);
        return [.. session.Parameters.Tensors.SelectMany(tensor => session.Parameters.Slice(session.Parameters.Gradients, tensor.Name).ToArray())];
    }

    /// <summary>The scores of prompts and of the tokens after them.</summary>
    private sealed class LogitsOf : IDisposable
    {
        private readonly Checkpoint _checkpoint;
        private readonly OnnxSession _session;
        private readonly Dictionary<string, NativeTensor> _factors;

        public LogitsOf(Checkpoint checkpoint, LoraAdapter? adapter, bool inBlocks)
        {
            _checkpoint = checkpoint;
            GraphBuilder graph = new("inference") { ExpertsInBlocks = inBlocks };
            _session = new OnnxSession(
                InferenceModel.Build(checkpoint, adapter?.Parts ?? new AdapterParts([], [], null), graph: graph), SessionUse.Generation, 1);
            _factors = (adapter?.Tensors ?? []).ToDictionary(item => item.Tensor.Key, item => Tensors.Of(item.Values, [.. item.Tensor.Shape]));
        }

        public float[][] Run(int[][] prompts, int steps)
        {
            using RotaryInputs rotary = new(_checkpoint.Config);
            StepGraph graph = new(
                _session, _factors, _checkpoint.Config, [.. _checkpoint.Architecture.States(_checkpoint.Config)], null, ElementType.Float32);
            using BatchDecoder decoder = new(graph, rotary);
            decoder.Prefill(prompts, default);
            List<float[]> all = [];
            for (int step = 0; step < steps; step++)
            {
                all.AddRange(Enumerable.Range(0, prompts.Length).Select(row => decoder.Logits(row).ToArray()));
                decoder.Next([.. prompts.Select((_, row) => (row + (5 * step)) % TinyModel.Vocabulary)], default);
            }

            return [.. all];
        }

        public void Dispose()
        {
            Array.ForEach([.. _factors.Values], tensor => tensor.Dispose());
            _session.Dispose();
        }
    }
}
