using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Runtime;
using MLNetLora.Tests.Inference;
using MLNetLora.Tests.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>What can be told of captured micro-batches without a GPU, and whether they give the same numbers where there is one.</summary>
public sealed class CapturedRunsTests : IDisposable
{
    private static readonly CudaDevice s_graphs = new() { Graphs = true };

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(0, 64)]
    [InlineData(64, 64)]
    [InlineData(65, 128)]
    [InlineData(512, 512)]
    [InlineData(513, 768)]
    public void Sizes_are_few(int count, int padded)
    {
        Assert.Equal(padded, CapturedRuns.Padded(count));
        Assert.Equal(padded, CapturedRuns.Length(count, ChunkPlan.Whole));
        int length = CapturedRuns.Length(count, ChunkPlan.Whole with { Attention = 3 });
        Assert.True(length % 3 == 0 && length >= padded && length < padded + 3);
    }

    /// <summary>As graphs are padded, computed on the processor.</summary>
    [Theory]
    [InlineData("qwen")]
    [InlineData("qwen2")]
    [InlineData("qwen2 sliding")]
    [InlineData("qwen3")]
    public void Padding_changes_no_number(string family)
    {
        string[] words = family.Split(' ');
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), words[0], slidingWindow: words.Length > 1 ? 4 : null);
        Random random = new(1);
        Batch batch = Batch.Of([TinyModel.Row(random, 9), TinyModel.Row(random, 5), TinyModel.Row(random, 7)]);
        Batch padded = batch.PaddedTo(CapturedRuns.Length(batch.Length, ChunkPlan.Whole));
        Assert.Equal((64, batch.Tokens), (padded.Length, padded.Tokens));
        (float loss, float[] gradients) = Run(batch, ChunkPlan.Whole);
        (float paddedLoss, float[] paddedGradients) = Run(padded, ChunkPlan.Whole with { Loss = CapturedRuns.Padded(batch.LabelIds.Length) });
        Assert.Equal(loss, paddedLoss, 1e-5f);
        Assert.True(GoldenFile.RelativeError(paddedGradients, gradients) < 1e-5);

        (float, float[]) Run(Batch rows, ChunkPlan plan)
        {
            TrainingOptions options = new() { BatchSize = 3 };
            LoraOptions lora = new() { Rank = 2, Dropout = 0, TargetModules = TargetModules.AllLinear };
            using TrainingSession session = new(TrainingTarget.Lora(checkpoint, lora), options, plan);
            TinyModel.Fill(session.Parameters, new Random(2));
            float sum = session.Accumulate(rows, rows.LabelIds.Length);
            float[] read = new float[session.Parameters.Gradients.Length];
            session.Parameters.Gradients.Read(0, read);
            return (sum, read);
        }
    }

    [Fact]
    public void What_cannot_be_captured_is_refused_by_name()
    {
        Checkpoint recurrent = TinyModel.WriteCheckpoint(_folder.File("recurrent"), "qwen3_5_text");
        Refused("CudaDevice.Graphs is true; it must be false for", () => CapturedRuns.RequireFor(s_graphs, recurrent.Config, recurrent.Folder));
        Refused("(qwen3_5_text): its recurrent layers are loops", () => CapturedRuns.RequireFor(s_graphs, recurrent.Config, recurrent.Folder));
        Refused("(qwen3_moe): which experts have rows", () =>
        {
            Checkpoint mixture = MixtureModel.Write(_folder.File("mixture"));
            CapturedRuns.RequireFor(s_graphs, mixture.Config, mixture.Folder);
        });
        Refused("its recurrent layers are loops", () => FullTraining.Train(recurrent.Folder, [new TrainingRow([1, 2], [1, 2])],
            new TrainingOptions { Device = s_graphs }, _folder.File("out"), null));
        CapturedRuns.RequireFor(new CudaDevice(), recurrent.Config, recurrent.Folder);
        Checkpoint dense = TinyModel.WriteCheckpoint(_folder.File("base"));
        CapturedRuns.RequireFor(s_graphs, dense.Config, dense.Folder);
        Refused("PackingLength is 64; it must be 0 (no packing) when CudaDevice.Graphs is true",
            () => new TrainingOptions { Device = s_graphs, PackingLength = 64 }.Validate());

        static void Refused(string expected, Action action) =>
            Assert.Contains(expected, Assert.Throws<OptionException>(action).Message, StringComparison.Ordinal);
    }

    [GpuTheory]
    [InlineData("qwen2", 0.0)]
    [InlineData("qwen2 sliding", 0.1)]
    [InlineData("qwen3", 0.1)]
    public void A_run_with_graphs_is_the_run_without(string family, double dropout)
    {
        string[] words = family.Split(' ');
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), words[0], slidingWindow: words.Length > 1 ? 4 : null, positions: 256);
        Random random = new(3);
        TrainingRow[] rows = [.. Enumerable.Range(0, 24).Select(i => TinyModel.Row(random, 5 + (7 * i)))];
        TrainingProgress[] plain = Train(graphs: false);
        TrainingProgress[] captured = Train(graphs: true);
        Assert.NotEmpty(plain);
        Assert.Equal(plain.Length, captured.Length);
        Assert.All(plain.Zip(captured), pair => Assert.Equal(pair.First.Loss, pair.Second.Loss, 1e-4));
        Assert.All(plain.Zip(captured), pair => Assert.Equal(pair.First.GradientNorm, pair.Second.GradientNorm, 1e-3 * pair.First.GradientNorm));

        TrainingProgress[] Train(bool graphs)
        {
            TrainingOptions options = new()
            {
                Device = (CudaDevice)Golden.Device with { Graphs = graphs },
                ComputeType = ComputeType.Float32,
                Optimizer = OptimizerKind.Sgd,
                BatchSize = 2,
                GradientAccumulationSteps = 2,
                NumberOfEpochs = 4,
            };
            LoraOptions lora = new() { Rank = 4, Dropout = dropout, TargetModules = TargetModules.AllLinear };
            return [.. LoraTraining.Train(checkpoint, lora, rows, options).Summary.Steps];
        }
    }
}
