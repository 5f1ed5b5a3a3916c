using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.Intrinsics.X86;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Onnx;

namespace MLNetLora.Quantization;

/// <summary>Linear layers that read the same values, and how large each of those gets: what SmoothQuant calls calibration.</summary>
/// <param name="Modules">Module names.</param>
/// <param name="AbsMax">[in], the absmax of every input over the calibration rows.</param>
internal sealed record CalibratedLayers(IReadOnlyList<string> Modules, float[] AbsMax);

/// <summary>One frozen layer in 8 bits: the tensors that take its weight's place.</summary>
/// <param name="Source">The weight in the checkpoint, [out, in].</param>
internal sealed record Int8Quantized(CheckpointTensor Source)
{
    /// <summary>Rows of the weight.</summary>
    public int Outputs => (int)Source.Entry.Shape[0];

    /// <summary>Columns of the weight.</summary>
    public int Inputs => (int)Source.Entry.Shape[1];

    /// <summary>(W·smoothing)ᵀ, [in, out].</summary>
    public QuantizedTensor Forward => new(Source.Entry.Name + ".int8_forward", ElementType.Int8, [Inputs, Outputs], Source);

    /// <summary>[out].</summary>
    public QuantizedTensor ForwardScales => new(Forward.Name + ".scales", ElementType.Float32, [Outputs], Source);

    /// <summary>W, [out, in].</summary>
    public QuantizedTensor Backward => new(Source.Entry.Name + ".int8_backward", ElementType.Int8, [Outputs, Inputs], Source);

    /// <summary>[in].</summary>
    public QuantizedTensor BackwardScales => new(Backward.Name + ".scales", ElementType.Float32, [Inputs], Source);
}

/// <summary>Layers with the same input in 8 bits.</summary>
/// <param name="Layers">The layers.</param>
/// <param name="AbsMax">[in], the absmax of their input.</param>
internal sealed record Int8Group(IReadOnlyList<Int8Quantized> Layers, float[] AbsMax)
{
    /// <summary>1/smoothing of the common input, [in]; named after the first layer.</summary>
    public QuantizedTensor InverseSmoothing =>
        new(Layers[0].Source.Entry.Name + ".int8_inverse_smoothing", ElementType.Float32, [AbsMax.Length], Layers[0].Source);

    /// <summary>Everything that takes the layers' place.</summary>
    public IEnumerable<QuantizedTensor> Tensors =>
        Layers.SelectMany(layer => (QuantizedTensor[])[layer.Forward, layer.ForwardScales, layer.Backward, layer.BackwardScales]).Prepend(InverseSmoothing);
}

/// <summary>
/// The frozen linear layers of a training graph in signed 8-bit integers: (W·smoothing)ᵀ with a scale for each output for the forward pass, W with a
/// scale for each input for the backward pass. Smoothing is √(absmax of the input / absmax of the weight) of a column, so that neither of the two
/// alone is hard to quantize (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438, with α = ½).
/// </summary>
internal sealed class Int8Weights
{
    private const int Rows = 64; // read at a time
    private const float SmallestScale = 1e-30f; // of a row of zeros

    private readonly Checkpoint _checkpoint;

    /// <summary>Says what is quantized; nothing is read yet.</summary>
    /// <param name="checkpoint">Where the weights are.</param>
    /// <param name="layers">The layers and what they are fed.</param>
    public Int8Weights(Checkpoint checkpoint, IReadOnlyList<CalibratedLayers> layers)
    {
        _checkpoint = checkpoint;
        Groups = [.. layers.Select(
            inputs => new Int8Group([.. inputs.Modules.Select(module => new Int8Quantized(checkpoint.Tensors[module + ".weight"]))], inputs.AbsMax))];
    }

    /// <summary>The layers, those with the same input together.</summary>
    public IReadOnlyList<Int8Group> Groups { get; }

    /// <summary>
    /// The largest integer of a weight: 127; 63 on x86 processors without VNNI, whose products add two numbers in 16 bits and would cut off what does not fit.
    /// </summary>
    internal static int MaximumInteger { get; } =
        X86Base.IsSupported && (X86Base.CpuId(7, 0).Ecx & (1 << 11)) == 0 && (X86Base.CpuId(7, 1).Eax & (1 << 4)) == 0 ? 63 : 127;

    /// <summary>Reads and quantizes.</summary>
    /// <param name="memory">Where each tensor is written, by its name; empty for a copy that the graph does not read.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    /// <exception cref="CheckpointException">A file cannot be read.</exception>
    public void Quantize(Func<string, TensorMemory> memory, int threads, CancellationToken cancellation = default)
    {
        using TensorRows source = new(_checkpoint.Files);
        try
        {
            ParallelOptions parallel = new() { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads, CancellationToken = cancellation };
            Parallel.ForEach(Groups, parallel, group => new GroupQuantizer(group, source, memory).Run());
        }
        catch (AggregateException e) when (e.Flatten().InnerExceptions[0] is CheckpointException cause)
        {
            throw new CheckpointException(cause.Message, cause);
        }
    }

    /// <summary>Quantizes layers with the same input, twice through each, some rows at a time: first for the absmax of every column, then to write.</summary>
    private sealed class GroupQuantizer(Int8Group group, TensorRows source, Func<string, TensorMemory> memory)
    {
        private readonly int _inputs = group.AbsMax.Length;
        private readonly float[] _row = new float[group.AbsMax.Length]; // scratch
        private readonly float[] _rows = new float[Rows * group.AbsMax.Length];

        public void Run()
        {
            float[][] columns = [.. group.Layers.Select(ColumnAbsMax)];
            float[] smoothing = Smoothing(columns);
            for (int l = 0; l < columns.Length; l++)
            {
                Write(group.Layers[l], columns[l], smoothing);
            }
        }

        private float[] ColumnAbsMax(Int8Quantized layer)
        {
            float[] columns = new float[_inputs];
            for (int first = 0; first < layer.Outputs; first += Rows)
            {
                Span<float> part = Read(layer, first);
                for (int at = 0; at < part.Length; at += _inputs)
                {
                    TensorPrimitives.Abs(part.Slice(at, _inputs), _row);
                    TensorPrimitives.Max(columns, _row, columns);
                }
            }

            return columns;
        }

        private float[] Smoothing(float[][] columns)
        {
            float[] smoothing = new float[_inputs];
            Span<float> inverse = memory(group.InverseSmoothing.Name).Slice<float>(0, _inputs);
            for (int i = 0; i < _inputs; i++)
            {
                float absmax = columns.Max(column => column[i]);
                smoothing[i] = absmax > 0 && group.AbsMax[i] > 0 ? MathF.Sqrt(group.AbsMax[i] / absmax) : 1;
                inverse[i] = 1 / smoothing[i];
            }

            return smoothing;
        }

        private void Write(Int8Quantized layer, float[] columns, float[] smoothing)
        {
            TensorMemory forward = memory(layer.Forward.Name);
            TensorMemory backward = memory(layer.Backward.Name);
            TensorPrimitives.Divide(columns, MaximumInteger, columns);
            TensorPrimitives.Max(columns, SmallestScale, columns);
            if (!backward.IsEmpty)
            {
                columns.CopyTo(memory(layer.BackwardScales.Name).Slice<float>(0, _inputs));
            }

            for (int first = 0; first < layer.Outputs; first += Rows)
            {
                Span<float> part = Read(layer, first);
                if (!backward.IsEmpty)
                {
                    WriteBackward(backward, first, part, columns);
                }

                if (!forward.IsEmpty)
                {
                    WriteForward(forward, memory(layer.ForwardScales.Name), layer.Outputs, first, part, smoothing);
                }
            }
        }

        private void WriteBackward(TensorMemory backward, int first, Span<float> rows, float[] scales)
        {
            for (int at = 0, row = first; at < rows.Length; at += _inputs, row++)
            {
                TensorPrimitives.Divide(rows.Slice(at, _inputs), scales, _row);
                TensorPrimitives.Round<float>(_row, _row);
                TensorPrimitives.ConvertTruncating<float, sbyte>(_row, backward.Slice<sbyte>((long)row * _inputs, _inputs));
            }
        }

        private void WriteForward(TensorMemory forward, TensorMemory scales, int outputs, int first, Span<float> rows, float[] smoothing)
        {
            int count = rows.Length / _inputs;
            Span<float> rowScales = scales.Slice<float>(first, count);
            for (int r = 0; r < count; r++)
            {
                Span<float> row = rows.Slice(r * _inputs, _inputs);
                TensorPrimitives.Multiply(row, smoothing, row);
                rowScales[r] = Math.Max(Math.Abs(TensorPrimitives.MaxMagnitude<float>(row)) / MaximumInteger, SmallestScale);
                TensorPrimitives.Divide(row, rowScales[r], row);
                TensorPrimitives.Round<float>(row, row);
            }

            for (int i = 0; i < _inputs; i++)
            {
                Span<sbyte> column = forward.Slice<sbyte>(((long)i * outputs) + first, count); // of W, a row of its transpose
                for (int r = 0; r < count; r++)
                {
                    column[r] = (sbyte)rows[(r * _inputs) + i];
                }
            }
        }

        private Span<float> Read(Int8Quantized layer, int first)
        {
            Span<float> part = _rows.AsSpan(0, Math.Min(Rows, layer.Outputs - first) * _inputs);
            source.Read(layer.Source, first, part);
            FiniteNumbers.Require(layer.Source, part);
            return part;
        }
    }
}
