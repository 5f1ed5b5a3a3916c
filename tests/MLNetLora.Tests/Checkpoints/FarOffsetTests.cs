using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Training;

namespace MLNetLora.Tests.Checkpoints;

/// <summary>Weights that lie beyond 2 and 4 GB of their file are the same as nearer ones: read by this library, and mapped by the runtime.</summary>
public sealed class FarOffsetTests : IDisposable
{
    private const long First = (1L << 31) + 72;

    // So large that nobody reads the file ahead.
    private const long Second = 1L << 37;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [LinuxTheory]
    [InlineData(TensorType.Float32)]
    [InlineData(TensorType.BFloat16)]
    public void They_are_read_and_mapped(object tensorType)
    {
        TensorType type = (TensorType)tensorType;
        Checkpoint near = TinyModel.WriteCheckpoint(_folder.File("near"), type: type);
        Checkpoint far = Move(near);
        Assert.Contains(far.Tensors.Values, tensor => tensor.Entry.Offset is > int.MaxValue and < uint.MaxValue);
        Assert.Contains(far.Tensors.Values, tensor => tensor.Entry.Offset > uint.MaxValue);
        Assert.All(far.Tensors, tensor => Assert.Equal(near.Tensors[tensor.Key].ReadFloat32(), tensor.Value.ReadFloat32()));

        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = 2, TargetModules = "all-linear" }, near, 1);
        Batch batch = Batch.Of([TinyModel.Row(new Random(1), 12)]);
        Assert.Equal(LogitsRun.Run(near, adapter, batch).Logits, LogitsRun.Run(far, adapter, batch).Logits);
        foreach (WeightPrecision precision in Enum.GetValues<WeightPrecision>())
        {
            Assert.Equal(Scores(near, precision), Scores(far, precision));
        }
    }

    private static float[] Scores(Checkpoint checkpoint, WeightPrecision precision)
    {
        using CausalLanguageModel lm = new(checkpoint, threads: 1, precision: precision);
        float[] scores = lm.Logits([1, 2, 3, 4]);
        Assert.NotEqual(scores[0], scores[1]); // not the zeros of a hole
        return scores;
    }

    /// <summary>The same checkpoint with a hole of 2 GB before its tensors and a larger one in their middle.</summary>
    private Checkpoint Move(Checkpoint near)
    {
        string folder = Directory.CreateDirectory(_folder.File("far")).FullName;
        File.Copy(Path.Combine(near.Folder, "config.json"), Path.Combine(folder, "config.json"));
        byte[] bytes = File.ReadAllBytes(near.Files[0].Source);
        SparseFile.Tensor[] tensors = [.. near.Files[0].Tensors.Values.OrderBy(entry => entry.Offset).Select(entry =>
            new SparseFile.Tensor(entry.Name, entry.TypeName, entry.Shape, bytes[(int)entry.Offset..(int)(entry.Offset + entry.Length)]))];
        int half = tensors.Length / 2;
        SparseFile.Tensor[] all = [SparseFile.Tensor.Hole("a", First), .. tensors[..half], SparseFile.Tensor.Hole("b", Second), .. tensors[half..]];
        SparseFile.Write(Path.Combine(folder, "model.safetensors"), all);
        return Checkpoint.Open(folder);
    }
}
