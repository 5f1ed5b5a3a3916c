using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.Intrinsics.X86;
using Microsoft.ML.OnnxRuntime.Tensors;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Runtime;

namespace MLNetLora.Artifacts;

/// <summary>
/// The frozen linear layers of a training graph in signed 8-bit integers: (W·smoothing)ᵀ with a scale for each output for the forward pass, W with a scale for each input for the backward pass.
/// Smoothing is √(largest input / largest weight) of a column, so that neither of the two alone is hard to round (SmoothQuant with α = ½).
/// Rounded on all cores when training starts; only those that the graph reads.
/// </summary>
internal sealed unsafe class Int8Weights : IDisposable
{
    private const int Rows = 64; // read at a time
    private const float Smallest = 1e-30f; // scale of a row of zeros

    private readonly Dictionary<string, NativeTensor> _values = [];
    private readonly List<NativeBuffer> _memory = [];

    /// <summary>Reads and rounds.</summary>
    /// <param name="checkpoint">Where the weights are.</param>
    /// <param name="layers">The layers and what they are fed.</param>
    /// <param name="used">Names of the initializers that the graph reads.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    /// <param name="cancellation">Ends it on the way.</param>
    public Int8Weights(Checkpoint checkpoint, IReadOnlyList<LayerInputs> layers, IReadOnlySet<string> used, int threads, CancellationToken cancellation = default)
    {
        using TensorRows source = new(checkpoint.Files);
        try
        {
            Layer[][] work = [.. layers.Select(inputs => inputs.Modules.Select(module => new Layer(this, checkpoint.Tensors[module + ".weight"], used)).ToArray())];
            nint[] smoothing = [.. layers.Select(inputs => Allocate(SmoothingName(inputs.Modules[0] + ".weight"), TensorElementType.Float, [inputs.Largest.Length], sizeof(float)))];
            ParallelOptions parallel = new() { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads, CancellationToken = cancellation };
            Parallel.For(0, layers.Count, parallel, i => Round(source, work[i], layers[i].Largest, new Span<float>((float*)smoothing[i], layers[i].Largest.Length)));
        }
        catch (AggregateException e) when (e.Flatten().InnerExceptions[0] is CheckpointException cause)
        {
            Dispose();
            throw new CheckpointException(cause.Message, cause);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What takes the place of the graph's initializers, by their names.</summary>
    public IReadOnlyDictionary<string, NativeTensor> Initializers => _values;

    /// <summary>Name of (W·smoothing)ᵀ, [in, out].</summary>
    public static string ForwardName(string weight) => weight + ".int8_forward";

    /// <summary>Name of W, [out, in].</summary>
    public static string BackwardName(string weight) => weight + ".int8_backward";

    /// <summary>Name of the scales of one of them.</summary>
    public static string ScalesName(string rounded) => rounded + ".scales";

    /// <summary>Name of 1/smoothing, [in], of a set of layers with the same input; the weight is that of the first.</summary>
    public static string SmoothingName(string weight) => weight + ".int8_inverse_smoothing";

    /// <summary>
    /// The largest whole number of a weight: 127; 63 on x86 processors without VNNI, whose products add two numbers in 16 bits and would cut off what does not fit.
    /// </summary>
    internal static int Largest { get; } = X86Base.IsSupported && (X86Base.CpuId(7, 0).Ecx & (1 << 11)) == 0 && (X86Base.CpuId(7, 1).Eax & (1 << 4)) == 0 ? 63 : 127;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (NativeTensor value in _values.Values)
        {
            value.Dispose();
        }

        _values.Clear();
        _memory.ForEach(buffer => buffer.Dispose());
        _memory.Clear();
    }

    private nint Allocate(string name, TensorElementType type, long[] shape, int size)
    {
        long bytes = shape.Aggregate((long)size, (product, axis) => product * axis);
        NativeBuffer buffer = new(bytes, $"the 8-bit copy '{name}'");
        _memory.Add(buffer);
        _values[name] = buffer.View(type, 0, shape, bytes);
        return (nint)buffer.Data;
    }

    // Layers with the same input, twice through each, some rows at a time: first for the largest weight of every column, then to round.
    private static void Round(TensorRows source, Layer[] layers, float[] largestInputs, Span<float> inverseSmoothing)
    {
        int inputs = largestInputs.Length;
        float[] rows = ArrayPool<float>.Shared.Rent(Rows * inputs);
        float[] scratch = new float[inputs];
        float[][] columns = [.. layers.Select(_ => new float[inputs])]; // largest weights
        try
        {
            for (int l = 0; l < layers.Length; l++)
            {
                for (int first = 0; first < layers[l].Outputs; first += Rows)
                {
                    Span<float> part = Read(layers[l], first);
                    for (int at = 0; at < part.Length; at += inputs)
                    {
                        TensorPrimitives.Abs(part.Slice(at, inputs), scratch);
                        TensorPrimitives.Max(columns[l], scratch, columns[l]);
                    }
                }
            }

            float[] smoothing = new float[inputs];
            for (int i = 0; i < inputs; i++)
            {
                float largest = columns.Max(column => column[i]);
                smoothing[i] = largest > 0 && largestInputs[i] > 0 ? MathF.Sqrt(largestInputs[i] / largest) : 1;
                inverseSmoothing[i] = 1 / smoothing[i];
            }

            for (int l = 0; l < layers.Length; l++)
            {
                Layer layer = layers[l];
                TensorPrimitives.Divide(columns[l], Largest, columns[l]);
                TensorPrimitives.Max(columns[l], Smallest, columns[l]);
                if (layer.Backward != null)
                {
                    columns[l].CopyTo(new Span<float>(layer.BackwardScales, inputs));
                }

                for (int first = 0; first < layer.Outputs; first += Rows)
                {
                    Span<float> part = Read(layer, first);
                    for (int at = 0, row = first; at < part.Length && layer.Backward != null; at += inputs, row++)
                    {
                        TensorPrimitives.Divide(part.Slice(at, inputs), columns[l], scratch);
                        TensorPrimitives.Round<float>(scratch, scratch);
                        TensorPrimitives.ConvertTruncating<float, sbyte>(scratch, new Span<sbyte>(layer.Backward + ((long)row * inputs), inputs));
                    }

                    if (layer.Forward != null)
                    {
                        RoundForward(layer, first, part, smoothing);
                    }
                }
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rows);
        }

        Span<float> Read(Layer layer, int first)
        {
            Span<float> part = rows.AsSpan(0, Math.Min(Rows, layer.Outputs - first) * inputs);
            source.Read(layer.Tensor, first, part);
            return part;
        }
    }

    private static void RoundForward(Layer layer, int first, Span<float> rows, float[] smoothing)
    {
        int inputs = smoothing.Length;
        int count = rows.Length / inputs;
        for (int r = 0; r < count; r++)
        {
            Span<float> row = rows.Slice(r * inputs, inputs);
            TensorPrimitives.Multiply(row, smoothing, row);
            float scale = Math.Max(Math.Abs(TensorPrimitives.MaxMagnitude<float>(row)) / Largest, Smallest);
            layer.ForwardScales[first + r] = scale;
            TensorPrimitives.Divide(row, scale, row);
            TensorPrimitives.Round<float>(row, row);
        }

        for (int i = 0; i < inputs; i++)
        {
            sbyte* column = layer.Forward + ((long)i * layer.Outputs) + first;
            for (int r = 0; r < count; r++)
            {
                column[r] = (sbyte)rows[(r * inputs) + i];
            }
        }
    }

    /// <summary>Where a layer's two copies lie; null for one that the graph does not read.</summary>
    private sealed class Layer
    {
        public Layer(Int8Weights owner, CheckpointTensor tensor, IReadOnlySet<string> used)
        {
            Tensor = tensor;
            string name = tensor.Entry.Name;
            Outputs = (int)tensor.Entry.Shape[0];
            long inputs = tensor.Entry.Shape[1];
            if (used.Contains(ForwardName(name)))
            {
                Forward = (sbyte*)owner.Allocate(ForwardName(name), TensorElementType.Int8, [inputs, Outputs], 1);
                ForwardScales = (float*)owner.Allocate(ScalesName(ForwardName(name)), TensorElementType.Float, [Outputs], sizeof(float));
            }

            if (used.Contains(BackwardName(name)))
            {
                Backward = (sbyte*)owner.Allocate(BackwardName(name), TensorElementType.Int8, [Outputs, inputs], 1);
                BackwardScales = (float*)owner.Allocate(ScalesName(BackwardName(name)), TensorElementType.Float, [inputs], sizeof(float));
            }
        }

        public CheckpointTensor Tensor { get; }

        public int Outputs { get; }

        public sbyte* Forward { get; }

        public float* ForwardScales { get; }

        public sbyte* Backward { get; }

        public float* BackwardScales { get; }
    }
}
