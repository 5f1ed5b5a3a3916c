using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>An operator of <see cref="FusedOperators"/> in one type: what it is given, and how its kernel is started.</summary>
/// <param name="Operator">The operator.</param>
/// <param name="Type">Type of inputs and outputs, but for one of <see cref="FusedOperators.RmsNormGrad"/>.</param>
/// <param name="Inputs">How many.</param>
/// <param name="Outputs">How many; each has the first input's shape.</param>
/// <param name="Function">Name of the kernel in the text, without the type.</param>
internal sealed unsafe record FusedKernel(string Operator, ElementType Type, int Inputs, int Outputs, string Function)
{
    private const int MostAxes = 8;

    /// <summary>All of them.</summary>
    public static IReadOnlyList<FusedKernel> All { get; } =
    [
        .. from type in (ElementType[])[ElementType.Float32, ElementType.BFloat16, ElementType.Float16]
           let end = "_" + type.ToString().ToLowerInvariant()
           from kernel in (FusedKernel[])
           [
               new(FusedOperators.SwiGlu, type, 2, 1, "swiglu" + end),
               new(FusedOperators.SwiGluGrad, type, 3, 2, "swiglu_grad" + end),
               new(FusedOperators.RmsNormGrad, type, 4, 1, "rms_norm_grad" + end),
           ]
           select kernel,
    ];

    /// <summary>Whether a row is computed together, not each number alone.</summary>
    private bool IsOfRows => Operator == FusedOperators.RmsNormGrad;

    /// <summary>Type of an input.</summary>
    public ElementType InputType(int index) => IsOfRows && index == FusedOperators.InverseStd ? ElementType.Float32 : Type;

    /// <summary>Runs as a node of a graph.</summary>
    /// <param name="device">The kernels of the node's device.</param>
    /// <param name="context">The runtime's context of the node.</param>
    /// <returns>A status of the runtime; 0: all went well.</returns>
    public nint Run(CudaKernels device, nint context)
    {
        Span<long> shape = stackalloc long[MostAxes];
        Span<long> room = stackalloc long[MostAxes];
        nint* values = stackalloc nint[Inputs + Outputs + 1]; // of the arguments
        void** arguments = stackalloc void*[Inputs + Outputs + 1];
        (int axes, long rows, long columns) = (0, 1, 1);
        for (int i = 0; i < Inputs; i++)
        {
            nint status = OrtFunctions.Input(context, i, out nint tensor);
            int count = 0;
            status = status != 0 ? status : OrtFunctions.Shape(tensor, room, out count);
            status = status != 0 ? status : OrtFunctions.Data(tensor, out values[i]);
            if (status != 0)
            {
                return status;
            }

            if (count > MostAxes)
            {
                return OrtFunctions.Failure($"{Operator} takes at most {MostAxes} axes.");
            }

            Span<long> sizes = room[..count];
            if (i == 0)
            {
                sizes.CopyTo(shape);
                axes = count;
                columns = IsOfRows ? sizes[^1] : 1;
                rows = columns == 0 ? 0 : Product(sizes) / columns;
            }

            long expected = !IsOfRows || i < 2 ? rows * columns : i == FusedOperators.InverseStd ? rows : columns;
            if (Product(sizes) != expected && rows * columns > 0)
            {
                return OrtFunctions.Failure(FormattableString.Invariant($"Input {i} of {Operator} has {Product(sizes)} numbers, not {expected}."));
            }
        }

        for (int i = Inputs; i < Inputs + Outputs; i++)
        {
            nint status = OrtFunctions.Output(context, i - Inputs, shape[..axes], out nint tensor);
            status = status != 0 ? status : OrtFunctions.Data(tensor, out values[i]);
            if (status != 0)
            {
                return status;
            }
        }

        nint failed = OrtFunctions.Stream(context, out nint stream);
        if (failed != 0 || rows * columns == 0)
        {
            return failed;
        }

        values[Inputs + Outputs] = (nint)(IsOfRows ? columns : rows);
        for (int i = 0; i <= Inputs + Outputs; i++)
        {
            arguments[i] = values + i;
        }

        return device.Launch(Function, Size(rows, columns), stream, arguments) is { } wrong ? OrtFunctions.Failure(wrong) : 0;
    }

    /// <summary>How the kernel is started.</summary>
    /// <param name="rows">Rows; where each number is computed alone, numbers.</param>
    /// <param name="columns">Numbers of a row, or one.</param>
    internal KernelSize Size(long rows, long columns) => IsOfRows ? KernelSize.ForRows(rows, columns, Type) : KernelSize.ForElements(rows, Type);

    private static long Product(ReadOnlySpan<long> sizes)
    {
        long product = 1;
        foreach (long size in sizes)
        {
            product *= size;
        }

        return product;
    }
}
