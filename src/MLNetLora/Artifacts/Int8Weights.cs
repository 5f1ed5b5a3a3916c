using System.Buffers;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using MLNetLora.Checkpoints;

namespace MLNetLora.Artifacts;

/// <summary>
/// The frozen linear layers of a training graph in signed 8-bit integers: Wᵀ with a scale for each output for the forward pass, W with a scale for each input for the backward pass.
/// Rounded on all cores when training starts; only those that the graph reads.
/// </summary>
internal sealed unsafe class Int8Weights : IDisposable
{
    private const int Rows = 64; // read at a time
    private const float Smallest = 1e-30f; // scale of a row of zeros

    private readonly Dictionary<string, OrtValue> _values = [];
    private readonly List<nint> _memory = [];

    /// <summary>Reads and rounds.</summary>
    /// <param name="checkpoint">Where the weights are.</param>
    /// <param name="used">Names of the initializers that are wanted; others than those of <see cref="ForwardName"/> and <see cref="BackwardName"/> are passed over.</param>
    /// <param name="threads">Threads; 0 takes all cores.</param>
    public Int8Weights(Checkpoint checkpoint, IReadOnlySet<string> used, int threads)
    {
        using TensorRows source = new(checkpoint);
        try
        {
            List<Action> work = [];
            foreach (CheckpointTensor tensor in checkpoint.Architecture.Linears(checkpoint.Config).Select(module => checkpoint.Tensors[module.Name + ".weight"]))
            {
                string name = tensor.Entry.Name;
                (int outputs, int inputs) = ((int)tensor.Entry.Shape[0], (int)tensor.Entry.Shape[1]);
                (nint forward, nint forwardScales) = used.Contains(ForwardName(name)) ? (Tensor(ForwardName(name), inputs, outputs), Vector(ScalesName(ForwardName(name)), outputs)) : (0, 0);
                (nint backward, nint backwardScales) = used.Contains(BackwardName(name)) ? (Tensor(BackwardName(name), outputs, inputs), Vector(ScalesName(BackwardName(name)), inputs)) : (0, 0);
                if (forward != 0 || backward != 0)
                {
                    work.Add(() => Round(source, tensor, (sbyte*)forward, (float*)forwardScales, (sbyte*)backward, (float*)backwardScales));
                }
            }

            Parallel.ForEach(work, new ParallelOptions { MaxDegreeOfParallelism = threads == 0 ? Environment.ProcessorCount : threads }, item => item());
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
    public IReadOnlyDictionary<string, OrtValue> Initializers => _values;

    /// <summary>Name of Wᵀ, [in, out].</summary>
    public static string ForwardName(string weight) => weight + ".int8_forward";

    /// <summary>Name of W, [out, in].</summary>
    public static string BackwardName(string weight) => weight + ".int8_backward";

    /// <summary>Name of the scales of one of them.</summary>
    public static string ScalesName(string rounded) => rounded + ".scales";

    /// <summary>
    /// The largest whole number of a weight: 127; 63 on x86 processors without VNNI, whose products add two numbers in 16 bits and would cut off what does not fit.
    /// </summary>
    internal static int Largest { get; } = X86Base.IsSupported && (X86Base.CpuId(7, 0).Ecx & (1 << 11)) == 0 && (X86Base.CpuId(7, 1).Eax & (1 << 4)) == 0 ? 63 : 127;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (OrtValue value in _values.Values)
        {
            value.Dispose();
        }

        _values.Clear();
        _memory.ForEach(address => NativeMemory.AlignedFree((void*)address));
        _memory.Clear();
    }

    private nint Tensor(string name, long rows, long columns) => Allocate(name, TensorElementType.Int8, [rows, columns], rows * columns);

    private nint Vector(string name, long count) => Allocate(name, TensorElementType.Float, [count], count * sizeof(float));

    private nint Allocate(string name, TensorElementType type, long[] shape, long bytes)
    {
        nint address = (nint)NativeMemory.AlignedAlloc((nuint)bytes, 64);
        _memory.Add(address);
        _values[name] = OrtValue.CreateTensorValueWithData(OrtMemoryInfo.DefaultInstance, type, shape, address, bytes);
        return address;
    }

    // Twice through the tensor, some rows at a time: first for the largest magnitudes, then to round.
    private static void Round(TensorRows source, CheckpointTensor tensor, sbyte* forward, float* forwardScales, sbyte* backward, float* backwardScales)
    {
        (int outputs, int inputs) = ((int)tensor.Entry.Shape[0], (int)tensor.Entry.Shape[1]);
        float[] rows = ArrayPool<float>.Shared.Rent(Rows * inputs);
        float[] rowScales = new float[outputs];
        float[] columnScales = new float[inputs];
        float[] scaled = new float[inputs];
        float[] magnitudes = new float[inputs];
        try
        {
            for (int first = 0; first < outputs; first += Rows)
            {
                int count = Math.Min(Rows, outputs - first);
                source.Read(tensor, first, rows.AsSpan(0, count * inputs));
                for (int r = 0; r < count; r++)
                {
                    TensorPrimitives.Abs(rows.AsSpan(r * inputs, inputs), magnitudes);
                    TensorPrimitives.Max(columnScales, magnitudes, columnScales);
                    rowScales[first + r] = Scale(TensorPrimitives.Max<float>(magnitudes));
                }
            }

            for (int i = 0; i < inputs; i++)
            {
                columnScales[i] = Scale(columnScales[i]);
            }

            for (int first = 0; first < outputs; first += Rows)
            {
                int count = Math.Min(Rows, outputs - first);
                source.Read(tensor, first, rows.AsSpan(0, count * inputs));
                for (int r = 0; r < count && backward != null; r++)
                {
                    TensorPrimitives.Divide(rows.AsSpan(r * inputs, inputs), columnScales, scaled);
                    ToInt8(scaled, new Span<sbyte>(backward + ((long)(first + r) * inputs), inputs));
                }

                for (int r = 0; r < count && forward != null; r++)
                {
                    TensorPrimitives.Divide(rows.AsSpan(r * inputs, inputs), rowScales[first + r], rows.AsSpan(r * inputs, inputs));
                    TensorPrimitives.Round<float>(rows.AsSpan(r * inputs, inputs), rows.AsSpan(r * inputs, inputs));
                }

                for (int i = 0; i < inputs && forward != null; i++)
                {
                    sbyte* column = forward + ((long)i * outputs) + first;
                    for (int r = 0; r < count; r++)
                    {
                        column[r] = (sbyte)rows[(r * inputs) + i];
                    }
                }
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rows);
        }

        if (forward != null)
        {
            rowScales.CopyTo(new Span<float>(forwardScales, outputs));
        }

        if (backward != null)
        {
            columnScales.CopyTo(new Span<float>(backwardScales, inputs));
        }
    }

    private static float Scale(float largest) => Math.Max(largest / Largest, Smallest);

    private static void ToInt8(Span<float> scaled, Span<sbyte> whole)
    {
        TensorPrimitives.Round<float>(scaled, scaled);
        TensorPrimitives.ConvertTruncating<float, sbyte>(scaled, whole);
    }
}
