using System.Buffers;
using Microsoft.ML.OnnxRuntime.Tensors;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Runtime;

namespace MLNetLora.Artifacts;

/// <summary>One weight, rounded: where its parts are in native memory.</summary>
/// <param name="Tensor">The weight in the checkpoint, [outputs, inputs].</param>
/// <param name="Format">Bits and block size.</param>
/// <param name="Packed">[outputs, blocks, bytes].</param>
/// <param name="Scales">[outputs, blocks], float32.</param>
/// <param name="ZeroPoints">[outputs, (blocks + 1) / 2]; 0 where the format has none.</param>
internal sealed record RoundedWeight(CheckpointTensor Tensor, BlockFormat Format, nint Packed, nint Scales, nint ZeroPoints)
{
    public int Outputs => (int)Tensor.Entry.Shape[0];

    public int Inputs => (int)Tensor.Entry.Shape[1];

    public long[] PackedShape => [Outputs, Format.Blocks(Inputs), Format.BlockBytes];

    public long[] ScalesShape => [Outputs, Format.Blocks(Inputs)];

    public long[] ZeroPointsShape => [Outputs, Format.ZeroPointBytes(Inputs)];
}

/// <summary>
/// The linear layers and the output layer of a checkpoint in 8 or 4 bits, rounded on all cores while they are read, a few rows at a time. Layers with less than one block of
/// inputs stay as they are. ONNX Runtime packs the weights for its kernels once more; <see cref="FreePacked"/> then gives up what was only the source.
/// </summary>
internal sealed unsafe class RoundedWeights : IDisposable
{
    private const int BlockSize = 128; // on processors with AVX-512 products with blocks of 32 take half as long again
    private const int ChunkBytes = 1 << 20;

    private readonly Dictionary<string, RoundedWeight> _weights = [];
    private readonly List<NativeTensor> _values = [];
    private readonly Dictionary<nint, NativeBuffer> _memory = []; // by address
    private readonly Checkpoint _checkpoint;
    private readonly int _threads;
    private readonly NativeBuffer _packed;

    /// <summary>Reads and rounds.</summary>
    /// <param name="checkpoint">Where the weights are.</param>
    /// <param name="precision">8 or 4 bits.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public RoundedWeights(Checkpoint checkpoint, WeightPrecision precision, int threads, CancellationToken cancellation = default)
    {
        _checkpoint = checkpoint;
        BlockFormat format = new(precision == WeightPrecision.Int8 ? 8 : 4, BlockSize);
        string[] names = [.. checkpoint.Architecture.Linears(checkpoint.Config).Select(module => module.Name + ".weight"), Models.Architecture.HeadName(checkpoint.Config)];
        try
        {
            CheckpointTensor[] tensors = [.. names.Select(name => checkpoint.Tensors[name]).Where(tensor => tensor.Entry.Shape[1] >= BlockSize)];

            // One block, which the system gets back as soon as it is freed; many of a few megabytes each might stay with the allocator.
            nint next = Allocate(tensors.Sum(PackedBytes));
            _packed = _memory[next];
            foreach (CheckpointTensor tensor in tensors)
            {
                (long outputs, int inputs) = (tensor.Entry.Shape[0], (int)tensor.Entry.Shape[1]);
                _weights[tensor.Entry.Name] = new RoundedWeight(tensor, format, next, Allocate(outputs * format.Blocks(inputs) * sizeof(float)), format.HasZeroPoints ? Allocate(outputs * format.ZeroPointBytes(inputs)) : 0);
                next += (nint)PackedBytes(tensor);
            }

            Fill(_threads = threads, cancellation);
        }
        catch
        {
            Dispose();
            throw;
        }

        long PackedBytes(CheckpointTensor tensor) => tensor.Entry.Shape[0] * format.Blocks((int)tensor.Entry.Shape[1]) * format.BlockBytes;
    }

    /// <summary>The rounded weight of a name; null where it is left as it is.</summary>
    public RoundedWeight? Get(string name) => _weights.GetValueOrDefault(name);

    /// <summary>What takes the place of the graph's initializers, by their names.</summary>
    public IReadOnlyDictionary<string, NativeTensor> Initializers()
    {
        Dictionary<string, NativeTensor> values = [];
        foreach ((string name, RoundedWeight w) in _weights)
        {
            Add(PackedName(name), TensorElementType.UInt8, _packed, w.Packed - (nint)_packed.Data, w.PackedShape, 1);
            Add(ScalesName(name), TensorElementType.Float, _memory[w.Scales], 0, w.ScalesShape, sizeof(float));
            if (w.Format.HasZeroPoints)
            {
                Add(ZeroPointsName(name), TensorElementType.UInt8, _memory[w.ZeroPoints], 0, w.ZeroPointsShape, 1);
            }
        }

        return values;

        void Add(string name, TensorElementType type, NativeBuffer data, long offset, long[] shape, int size)
        {
            NativeTensor value = data.View(type, offset, shape, shape.Aggregate(1L, (product, axis) => product * axis) * size);
            _values.Add(value);
            values[name] = value;
        }
    }

    /// <summary>
    /// Gives the rounded weights' memory back where ONNX Runtime has made its own, packed copy of them. Whether it has depends on the processor and nothing tells; so the memory
    /// is cleared, and only when the session still computes the same is it given back. Scales and zero points stay.
    /// </summary>
    /// <param name="run">Runs the session over every weight; called twice.</param>
    public void FreePacked(Func<float[]> run)
    {
        float[] before = run();
        _packed.Clear();
        if (!run().AsSpan().SequenceEqual(before))
        {
            Fill(_threads, default);
            return;
        }

        // The session still points there, so the addresses must stay; only the pages go.
        _packed.Discard();
    }

    public static string PackedName(string weight) => weight + ".packed";

    public static string ScalesName(string weight) => weight + ".scales";

    public static string ZeroPointsName(string weight) => weight + ".zero_points";

    /// <inheritdoc/>
    public void Dispose()
    {
        _values.ForEach(value => value.Dispose());
        _values.Clear();
        foreach (NativeBuffer buffer in _memory.Values)
        {
            buffer.Dispose();
        }

        _memory.Clear();
    }

    private nint Allocate(long bytes)
    {
        NativeBuffer buffer = new(bytes, "quantized weights");
        _memory.Add((nint)buffer.Data, buffer);
        return (nint)buffer.Data;
    }

    private void Fill(int threads, CancellationToken cancellation)
    {
        // Work is cut into pieces of about a megabyte of the file, whatever the layers' sizes.
        (RoundedWeight Weight, int First, int Count)[] pieces = [.. _weights.Values.SelectMany(w =>
        {
            int rows = (int)Math.Max(1, ChunkBytes * w.Outputs / w.Tensor.Entry.Length);
            return Enumerable.Range(0, (w.Outputs + rows - 1) / rows).Select(i => (w, i * rows, Math.Min(rows, w.Outputs - (i * rows))));
        })];
        using TensorRows source = new(_checkpoint.Files);
        try
        {
            ParallelOptions parallel = new() { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads, CancellationToken = cancellation };
            Parallel.ForEach(pieces, parallel, piece => Fill(piece.Weight, piece.First, piece.Count, source));
        }
        catch (AggregateException e) when (e.Flatten().InnerExceptions[0] is CheckpointException cause)
        {
            throw new CheckpointException(cause.Message, cause);
        }
    }

    private static void Fill(RoundedWeight w, int first, int count, TensorRows source)
    {
        (int inputs, int blocks) = (w.Inputs, w.Format.Blocks(w.Inputs));
        float[] rows = ArrayPool<float>.Shared.Rent(count * inputs);
        try
        {
            Span<float> values = rows.AsSpan(0, count * inputs);
            source.Read(w.Tensor, first, values);
            for (int r = 0; r < count; r++)
            {
                long at = first + r;
                BlockRounding.Round(values.Slice(r * inputs, inputs), w.Format,
                    new Span<byte>((byte*)w.Packed + (at * blocks * w.Format.BlockBytes), blocks * w.Format.BlockBytes),
                    new Span<float>((float*)w.Scales + (at * blocks), blocks),
                    w.Format.HasZeroPoints ? new Span<byte>((byte*)w.ZeroPoints + (at * w.Format.ZeroPointBytes(inputs)), w.Format.ZeroPointBytes(inputs)) : []);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rows);
        }
    }
}
