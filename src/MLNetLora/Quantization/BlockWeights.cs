using System.Buffers;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;

namespace MLNetLora.Quantization;

/// <summary>One weight in blocks: the tensors that take its place.</summary>
/// <param name="Source">The weight in the checkpoint, [outputs, inputs].</param>
/// <param name="Format">Bits and block size.</param>
internal sealed record BlockQuantized(CheckpointTensor Source, BlockFormat Format)
{
    /// <summary>Rows.</summary>
    public int Outputs => (int)Source.Entry.Shape[0];

    /// <summary>Columns.</summary>
    public int Inputs => (int)Source.Entry.Shape[1];

    /// <summary>[outputs, blocks, bytes].</summary>
    public QuantizedTensor Packed => new(Source.Entry.Name + ".packed", ElementType.UInt8, [Outputs, Format.Blocks(Inputs), Format.BlockBytes], Source);

    /// <summary>[outputs, blocks].</summary>
    public QuantizedTensor Scales => new(Source.Entry.Name + ".scales", Format.ScaleType, [Outputs, Format.Blocks(Inputs)], Source);

    /// <summary>[outputs, (blocks + 1) / 2]; null where the format has none.</summary>
    public QuantizedTensor? ZeroPoints =>
        Format.HasZeroPoints ? new(Source.Entry.Name + ".zero_points", ElementType.UInt8, [Outputs, Format.ZeroPointBytes(Inputs)], Source) : null;
}

/// <summary>
/// The linear layers and the output layer of a checkpoint in 8 or 4 bits, quantized on all cores while they are read, a few rows at a time. Layers
/// with less than one block of inputs stay as they are.
/// </summary>
internal sealed class BlockWeights
{
    private const int BlockSize = 128; // on processors with AVX-512 products with blocks of 32 take half as long again
    private const int ChunkBytes = 1 << 20;

    private readonly Checkpoint _checkpoint;
    private readonly Dictionary<string, BlockQuantized> _weights;

    /// <summary>Says what is quantized; nothing is read yet.</summary>
    /// <param name="checkpoint">Where the weights are.</param>
    /// <param name="precision">8 or 4 bits.</param>
    /// <param name="scaleType">What scales are stored in.</param>
    public BlockWeights(Checkpoint checkpoint, WeightPrecision precision, ElementType scaleType = ElementType.Float32)
    {
        BlockFormat format = new(precision == WeightPrecision.Int8 ? 8 : 4, BlockSize) { ScaleType = scaleType };
        IEnumerable<string> names = [.. checkpoint.Architecture.Linears(checkpoint.Config).Select(module => module.Name + ".weight"),
            checkpoint.Architecture.HeadName(checkpoint.Config)];
        _checkpoint = checkpoint;
        _weights = names.Select(name => checkpoint.Tensors[name])
            .Where(tensor => tensor.Entry.Shape[1] >= BlockSize)
            .ToDictionary(tensor => tensor.Entry.Name, tensor => new BlockQuantized(tensor, format));
    }

    /// <summary>The layers that a checkpoint has in 4 bits, expanded to 8: each level of a block becomes the nearest of 255. Rows that blocks do not begin with
    /// stay in 4 bits.</summary>
    /// <param name="checkpoint">Its linear layers are in 4 bits.</param>
    /// <param name="scaleType">What scales are stored in.</param>
    public BlockWeights(Checkpoint checkpoint, ElementType scaleType = ElementType.Float32)
    {
        _checkpoint = checkpoint;
        _weights = checkpoint.Tensors.Values
            .Where(tensor => tensor.FourBit is { } storage && tensor.Entry.Shape[1] % storage.BlockSize == 0)
            .ToDictionary(tensor => tensor.Entry.Name,
                tensor => new BlockQuantized(tensor, new BlockFormat(8, tensor.FourBit!.BlockSize) { ScaleType = scaleType }));
    }

    /// <summary>The packed weights, which ONNX Runtime may lay out for the processor once more.</summary>
    public IEnumerable<QuantizedTensor> Packed => _weights.Values.Select(weight => weight.Packed);

    /// <summary>The scales and, where the format has them, the zero points.</summary>
    public IEnumerable<QuantizedTensor> Scales =>
        _weights.Values.SelectMany(weight => weight.ZeroPoints is { } zeroPoints ? (QuantizedTensor[])[weight.Scales, zeroPoints] : [weight.Scales]);

    /// <summary>All of them.</summary>
    public IReadOnlyCollection<BlockQuantized> All => _weights.Values;

    /// <summary>The weight of a name; null where it stays as it is.</summary>
    public BlockQuantized? Get(string name) => _weights.GetValueOrDefault(name);

    /// <summary>Reads and quantizes.</summary>
    /// <param name="memory">Where each tensor is written, by its name.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    /// <exception cref="CheckpointException">A file cannot be read, or a weight holds NaN or infinite numbers.</exception>
    public void Quantize(Func<string, TensorMemory> memory, int threads, CancellationToken cancellation = default) =>
        Quantize(All, memory, threads, cancellation);

    /// <summary>The same for some of the weights.</summary>
    public void Quantize(IEnumerable<BlockQuantized> weights, Func<string, TensorMemory> memory, int threads, CancellationToken cancellation)
    {
        // Work is cut into pieces of about a megabyte of the file, whatever the layers' sizes.
        (Target Target, int First, int Count)[] pieces = [.. weights.SelectMany(weight =>
        {
            Target target = new(weight, memory(weight.Packed.Name), memory(weight.Scales.Name),
                weight.ZeroPoints is { } zeroPoints ? memory(zeroPoints.Name) : default);
            int rows = PieceRows(weight.Outputs, weight.Source.Entry.Length);
            return Enumerable.Range(0, (weight.Outputs + rows - 1) / rows).Select(i => (target, i * rows, Math.Min(rows, weight.Outputs - (i * rows))));
        })];
        using TensorRows source = new(_checkpoint.Files);
        try
        {
            ParallelOptions parallel = new() { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads, CancellationToken = cancellation };
            Parallel.ForEach(pieces, parallel, piece => piece.Target.Quantize(piece.First, piece.Count, source));
        }
        catch (AggregateException e) when (e.Flatten().InnerExceptions[0] is CheckpointException cause)
        {
            throw new CheckpointException(cause.Message, cause);
        }
    }

    /// <summary>How many rows of a weight make a piece.</summary>
    internal static int PieceRows(int outputs, long bytes) => (int)Math.Max(1, (long)ChunkBytes * outputs / bytes);

    private sealed record Target(BlockQuantized Weight, TensorMemory Packed, TensorMemory Scales, TensorMemory ZeroPoints)
    {
        public void Quantize(int first, int count, TensorRows source)
        {
            (int inputs, BlockFormat format) = (Weight.Inputs, Weight.Format);
            int blocks = format.Blocks(inputs);
            int packedBytes = blocks * format.BlockBytes; // of a row
            int zeroPointBytes = format.HasZeroPoints ? format.ZeroPointBytes(inputs) : 0;
            float[] rows = ArrayPool<float>.Shared.Rent(count * inputs);
            float[] scales = new float[blocks];
            try
            {
                Span<float> values = rows.AsSpan(0, count * inputs);
                source.Read(Weight.Source, first, values);
                FiniteNumbers.Require(Weight.Source, values);
                for (int r = 0; r < count; r++)
                {
                    long at = first + r;
                    format.Quantize(
                        values.Slice(r * inputs, inputs),
                        Packed.Slice<byte>(at * packedBytes, packedBytes),
                        scales,
                        ZeroPoints.Slice<byte>(at * zeroPointBytes, zeroPointBytes));
                    format.Store(scales, Scales, at * blocks);
                }
            }
            finally
            {
                ArrayPool<float>.Shared.Return(rows);
            }
        }
    }
}
