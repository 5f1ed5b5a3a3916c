using System.Runtime.InteropServices;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;
using MLNetLora.Runtime;
using MLNetLora.Tests;
using MLNetLora.Tests.Models;

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

    /// <summary>The matrices of a layer's experts are one tensor there, in the order of the experts, wherever and in whichever type they lie.</summary>
    [CudaTheory]
    [InlineData("as written", "BFloat16")]
    [InlineData("one file", "BFloat16")]
    [InlineData("one file", "Float32")]
    [InlineData("two files, two types", "Float16")]
    [InlineData("two files, two types", "Float32")]
    public void Experts_stand_side_by_side(string how, string computed)
    {
        Checkpoint checkpoint = MixtureModel.Write(_folder.File("base"));
        if (how != "as written")
        {
            bool isOne = how == "one file";
            checkpoint = MixtureModel.Rearrange(checkpoint, _folder.File("rearranged"), (name, i) => isOne || i % 2 == 0
                ? ("a.safetensors", TensorType.Float32, -i)
                : ("b.safetensors", TensorType.BFloat16, i));
        }

        ElementType type = Enum.Parse<ElementType>(computed);
        using DeviceMemory device = new(new CudaDevice());
        using DeviceWeights weights = new(checkpoint, device);
        ModelArtifact model = Model(checkpoint, type, parts: 1);
        IReadOnlyDictionary<string, NativeTensor> tensors = weights.For(model);
        Assert.Equal(2 * 3, model.Stacks.Count); // gate, up and down of two layers
        foreach ((string name, IReadOnlyList<CheckpointTensor> stack) in model.Stacks)
        {
            Assert.Equal(checkpoint.Config.Experts!.Count, stack.Count);
            Assert.Equal(Enumerable.Range(0, stack.Count).Select(expert => $".experts.{expert}."),
                stack.Select(tensor => tensor.Entry.Name[tensor.Entry.Name.IndexOf(".experts.", StringComparison.Ordinal)..]).Select(
                    rest => string.Join('.', rest.Split('.')[..3]) + "."));
            byte[] expected = [.. stack.SelectMany(tensor => Expected(tensor.ReadFloat32(), type))];
            Assert.Equal(how == "two files, two types", stack.Select(tensor => tensor.Entry.Type).Distinct().Count() == 2);
            Assert.Equal(expected, Bytes(tensors[name], stack.Sum(tensor => tensor.Entry.Count), type));
        }

        Assert.Same(tensors[model.Stacks.Keys.First()], weights.For(model)[model.Stacks.Keys.First()]); // read once
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

    /// <summary>The format allows it: an empty tensor where another begins.</summary>
    [CudaFact]
    public void An_empty_tensor_is_in_nobody_s_way()
    {
        Checkpoint checkpoint = TinyModel.WriteCheckpoint(_folder.File("base"));
        string file = checkpoint.Files[0].Source;
        byte[] bytes = File.ReadAllBytes(file);
        int length = (int)BitConverter.ToInt64(bytes);
        string header = System.Text.Encoding.UTF8.GetString(bytes, 8, length).TrimEnd();
        TensorEntry norm = checkpoint.Tensors.Values.First(tensor => tensor.Entry.Shape.Count == 2).Entry;
        long at = norm.Offset - 8 - length;
        string changed = string.Create(System.Globalization.CultureInfo.InvariantCulture,
            $"{header[..^1]},\"zz\":{{\"dtype\":\"I64\",\"shape\":[0],\"data_offsets\":[{at},{at}]}}}}");
        byte[] text = System.Text.Encoding.UTF8.GetBytes(changed);
        File.WriteAllBytes(file, [.. BitConverter.GetBytes((long)text.Length), .. text, .. bytes.AsSpan(8 + length)]);
        checkpoint = Checkpoint.Open(_folder.File("base"));
        Assert.Contains("zz", checkpoint.Files[0].Tensors.Keys);
        using DeviceMemory device = new(new CudaDevice());
        using DeviceWeights weights = new(checkpoint, device);
        CheckpointTensor tensor = checkpoint.Tensors[norm.Name];
        NativeTensor there = weights.For(Model(checkpoint, ElementType.BFloat16, parts: 1))[norm.Name];
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
