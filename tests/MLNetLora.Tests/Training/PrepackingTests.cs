using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Onnx.Proto;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Training;

namespace MLNetLora.Tests.Training;

/// <summary>Frozen weights laid out for the processor when the session is made; that the gradients stay right is compared in
/// <see cref="GradientGoldenTests"/>.</summary>
public sealed class PrepackingTests
{
    private static readonly LoraOptions s_lora = new() { Rank = 2, Dropout = 0 };

    // The file is changed under the session, which elsewhere a mapped file does not allow: only packed copies do not follow it.
    [LinuxTheory]
    [InlineData(TensorType.Float32, false)]
    [InlineData(TensorType.Float32, true)]
    [InlineData(TensorType.BFloat16, false)]
    [InlineData(TensorType.BFloat16, true)]
    public void Packed_weights_are_copies_and_others_the_file_itself(object tensorType, bool prepacked)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.Path, type: type);
        using TrainingSession session = new(TrainingTarget.Lora(checkpoint, s_lora), new TrainingOptions { Threads = 1, PrepackWeights = prepacked },
            ChunkPlan.Whole);
        LoraParameters.Load(session.Parameters, LoraAdapter.Create(s_lora, checkpoint, 1));
        Batch batch = Batch.Of([TinyModel.Row(new Random(1), 12)], 1);
        float before = session.Accumulate(batch, batch.LabelIds.Length);
        DateTime written = File.GetLastWriteTimeUtc(folder.File("model.safetensors"));
        using (FileStream file = new(folder.File("model.safetensors"), FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            foreach (MLNetLora.Models.LinearModule module in checkpoint.Architecture.Linears(checkpoint.Config))
            {
                TensorEntry entry = checkpoint.Tensors[module.Name + ".weight"].Entry;
                file.Position = entry.Offset;
                file.Write(new byte[entry.Length]);
            }
        }

        // Seen as changed, the session would refuse it.
        Assert.Throws<CheckpointException>(() => session.Accumulate(batch, batch.LabelIds.Length));
        File.SetLastWriteTimeUtc(folder.File("model.safetensors"), written);
        float after = session.Accumulate(batch, batch.LabelIds.Length);
        Assert.Equal(prepacked, before == after);
    }

    [Theory]
    [InlineData(TensorType.Float32, 0)]
    [InlineData(TensorType.BFloat16, 1)]
    public void A_weight_of_16_bits_is_upcast_once(object tensorType, int casts)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();
        TrainingTarget target = TrainingTarget.Lora(TinyModel.WriteCheckpoint(folder.Path, type: type), s_lora);
        foreach (bool once in (ReadOnlySpan<bool>)[false, true])
        {
            ModelArtifact model = TrainingModel.Training(target, checkpointing: false, new ChunkPlan(2, 1, false, Vocabulary: 2), new GraphBuilder("training"),
                upcastOnce: once);
            NodeProto[] nodes = [.. ModelProto.Parser.ParseFrom(model.Bytes).Graph.Node];
            foreach (string name in (ReadOnlySpan<string>)["model.layers.1.mlp.up_proj.weight", $"{target.Architecture.HeadName(target.Config)}.rows.0"])
            {
                int uses = nodes.Count(node => node.OpType == "Cast" && node.Input[0] == name);
                Assert.True(once ? uses == casts : uses >= 2 * casts, $"{name}: {uses}");
            }
        }
    }

    [Theory]
    [InlineData(TensorType.Float32, WeightPrecision.Checkpoint, 8, 8)]
    [InlineData(TensorType.BFloat16, WeightPrecision.Checkpoint, 12, 12)]
    [InlineData(TensorType.Float32, WeightPrecision.Int8, 2, 8)]
    [InlineData(TensorType.BFloat16, WeightPrecision.Int8, 2, 12)]
    public void Copies_are_counted_and_refused_where_they_do_not_fit(object tensorType, WeightPrecision precision, int block, int head)
    {
        TensorType type = (TensorType)tensorType;
        using TemporaryFolder folder = new();
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(folder.Path, type: type);
        long bytes = (checkpoint.Architecture.Linears(checkpoint.Config).Sum(module => (long)module.In * module.Out) * block)
            + ((long)checkpoint.Config.HiddenSize * checkpoint.Config.VocabSize * head);
        TrainingOptions options = new() { PrepackWeights = true, Precision = precision };
        Assert.Equal(bytes, Prepacking.Bytes(checkpoint, precision));
        RunMemory run = new(checkpoint.Config, checkpoint, new LoraOptions(), options, [TinyModel.Row(new Random(1), 8)], []);
        long all = run.Estimate().Bytes;
        long without = run.With(changed => changed.PrepackWeights = false).Estimate().Bytes;
        MachineMemory.Given = all - 1;
        try
        {
            string message = Assert.Throws<OptionException>(run.Require).Message;
            Assert.Contains($"{MachineMemory.Gigabytes(bytes)} for copies of weights", message, StringComparison.Ordinal);
            Assert.Contains($"PrepackWeights false, {MachineMemory.Gigabytes(all - without)}", message, StringComparison.Ordinal);
        }
        finally
        {
            MachineMemory.Given = null;
        }
    }

    [Fact]
    public void Where_every_weight_is_trained_none_can_be_packed()
    {
        using TemporaryFolder folder = new();
        OptionException error = Assert.Throws<OptionException>(() =>
            FullTraining.Train(Repository.Nano, [TinyModel.Row(new Random(1), 12)], new TrainingOptions { PrepackWeights = true },
            folder.File("model.safetensors"), TensorType.Float32));
        Assert.StartsWith("PrepackWeights is true", error.Message, StringComparison.Ordinal);
    }
}
