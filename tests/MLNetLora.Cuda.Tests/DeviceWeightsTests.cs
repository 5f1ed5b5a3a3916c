using System.Runtime.InteropServices;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;
using MLNetLora.Tests;

namespace MLNetLora.Cuda.Tests;

/// <summary>The weights on the device; what is copied there is real, and its memory is the process's.</summary>
public sealed class DeviceWeightsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [CudaTheory]
    [InlineData("Float32", "BFloat16")]
    [InlineData("Float16", "BFloat16")]
    [InlineData("BFloat16", "BFloat16")]
    [InlineData("BFloat16", "Float32")]
    [InlineData("Float32", "Float32")]
    public void Every_matrix_is_there_in_the_type_that_is_computed_in(string stored, string computed)
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"), "qwen3", tied: true, type: Enum.Parse<TensorType>(stored));
        ElementType type = Enum.Parse<ElementType>(computed);
        using DeviceMemory device = new(new CudaDevice());
        using DeviceWeights weights = new(checkpoint, device);
        IReadOnlyDictionary<string, NativeTensor> tensors = weights.For(Model(checkpoint, type, parts: 2));
        ElementType held = type == ElementType.Float32 ? Enum.Parse<ElementType>(stored) : type;
        foreach (CheckpointTensor tensor in checkpoint.Tensors.Values.Where(tensor => tensor.Entry.Shape.Count == 2))
        {
            Assert.Equal(Expected(tensor.ReadFloat32(), held), Bytes(tensors[tensor.Entry.Name], tensor.Entry.Count, held));
        }

        // The output layer in two halves, which are parts of the embedding.
        CheckpointTensor embedding = checkpoint.Tensors[checkpoint.Architecture.HeadName(checkpoint.Config)];
        string[] halves = [.. tensors.Keys.Where(name => name.Contains(".rows.", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        Assert.Equal(2, halves.Length);
        float[] all = embedding.ReadFloat32();
        Assert.Equal(Expected(all[(all.Length / 2)..], held), Bytes(tensors[halves[1]], all.Length / 2, held));
        Assert.Same(tensors[halves[1]], weights.For(Model(checkpoint, type, parts: 2))[halves[1]]); // read once
    }

    [CudaFact]
    public void Cancelled_on_the_way_the_rest_is_read_by_the_next_call()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        using DeviceMemory device = new(new CudaDevice());
        using DeviceWeights weights = new(checkpoint, device);
        ModelArtifact model = Model(checkpoint, ElementType.BFloat16, parts: 1);
        Assert.ThrowsAny<OperationCanceledException>(() => weights.For(model, cancellation: new CancellationToken(canceled: true)));
        CheckpointTensor tensor = checkpoint.Tensors.Values.First(tensor => tensor.Entry.Shape.Count == 2);
        NativeTensor there = weights.For(model)[tensor.Entry.Name];
        Assert.Equal(Expected(tensor.ReadFloat32(), ElementType.BFloat16), Bytes(there, tensor.Entry.Count, ElementType.BFloat16));
    }

    [CudaFact]
    public void A_file_that_has_become_shorter_is_named()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        using DeviceMemory device = new(new CudaDevice());
        using DeviceWeights weights = new(checkpoint, device);
        string file = checkpoint.Files[0].Source;
        using (FileStream stream = File.OpenWrite(file))
        {
            stream.SetLength(stream.Length / 2);
        }

        CheckpointException error = Assert.Throws<CheckpointException>(() => weights.For(Model(checkpoint, ElementType.BFloat16, parts: 1)));
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
    }

    private static ModelArtifact Model(Checkpoint checkpoint, ElementType type, int parts) => TrainingModel.Training(
        TrainingTarget.Lora(checkpoint, new LoraOptions()), false, ChunkPlan.Whole with { Vocabulary = parts },
        new GraphBuilder("training") { ForCuda = true, ComputeType = type });

    private static byte[] Expected(float[] values, ElementType type) => FloatConversion.FromFloat32(values, Enum.Parse<TensorType>($"{type}"));

    private static byte[] Bytes(NativeTensor tensor, long count, ElementType type) => type == ElementType.Float32
        ? MemoryMarshal.AsBytes(tensor.Span<float>()[..(int)count]).ToArray()
        : type == ElementType.Float16 ? MemoryMarshal.AsBytes(tensor.Span<Microsoft.ML.OnnxRuntime.Float16>()[..(int)count]).ToArray()
        : MemoryMarshal.AsBytes(tensor.Span<Microsoft.ML.OnnxRuntime.BFloat16>()[..(int)count]).ToArray();
}
