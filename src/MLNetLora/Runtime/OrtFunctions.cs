using System.Runtime.InteropServices;
using System.Text;
using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Runtime;

/// <summary>
/// Functions of ONNX Runtime's C interface that its package for .NET does not show: those of operators of one's own. They stand in a table of that interface's
/// version, to which later versions only append.
/// </summary>
internal static unsafe partial class OrtFunctions
{
    /// <summary>The version of the table (ORT_API_VERSION of 1.31).</summary>
    public const uint Version = 31;

    private const int Failed = 1; // ORT_FAIL
    private static readonly Lazy<nint> s_table = new(() => FindTable());

    /// <summary>A domain of operators, which has none yet.</summary>
    /// <param name="name">Its name, which is kept.</param>
    public static nint CreateDomain(byte* name)
    {
        nint domain;
        Check(((delegate* unmanaged<byte*, nint*, nint>)At(26))(name, &domain)); // CreateCustomOpDomain
        return domain;
    }

    /// <summary>Adds an operator, which is kept.</summary>
    public static void Add(nint domain, CustomOperator* op) =>
        Check(((delegate* unmanaged<nint, CustomOperator*, nint>)At(27))(domain, op)); // CustomOpDomain_Add

    /// <summary>Lets sessions know a domain, which is kept.</summary>
    public static void AddDomain(nint sessionOptions, nint domain) =>
        Check(((delegate* unmanaged<nint, nint, nint>)At(28))(sessionOptions, domain)); // AddCustomOpDomain

    /// <summary>An input of a node that runs. This and what follows returns 0, or a status that the runtime is to be given.</summary>
    public static nint Input(nint context, int index, out nint value)
    {
        fixed (nint* result = &value)
        {
            return ((delegate* unmanaged<nint, nuint, nint*, nint>)At(90))(context, (nuint)index, result); // KernelContext_GetInput
        }
    }

    /// <summary>An output of a node that runs, which is made.</summary>
    public static nint Output(nint context, int index, ReadOnlySpan<long> shape, out nint value)
    {
        fixed (long* sizes = shape)
        fixed (nint* result = &value)
        {
            return ((delegate* unmanaged<nint, nuint, long*, nuint, nint*, nint>)At(91))(
                context, (nuint)index, sizes, (nuint)shape.Length, result); // KernelContext_GetOutput
        }
    }

    /// <summary>Where a tensor is.</summary>
    public static nint Data(nint value, out nint data)
    {
        fixed (nint* result = &data)
        {
            return ((delegate* unmanaged<nint, nint*, nint>)At(51))(value, result); // GetTensorMutableData
        }
    }

    /// <summary>A tensor's shape.</summary>
    /// <param name="value">The tensor.</param>
    /// <param name="sizes">Room for its sizes.</param>
    /// <param name="axes">How many it has; more than there is room for are not written.</param>
    public static nint Shape(nint value, Span<long> sizes, out int axes)
    {
        axes = 0;
        nint info;
        nint status = ((delegate* unmanaged<nint, nint*, nint>)At(65))(value, &info); // GetTensorTypeAndShape
        if (status != 0)
        {
            return status;
        }

        nuint count;
        status = ((delegate* unmanaged<nint, nuint*, nint>)At(61))(info, &count); // GetDimensionsCount
        if (status == 0 && (axes = (int)count) <= sizes.Length)
        {
            fixed (long* result = sizes)
            {
                status = ((delegate* unmanaged<nint, long*, nuint, nint>)At(62))(info, result, count); // GetDimensions
            }
        }

        ((delegate* unmanaged<nint, void>)At(99))(info); // ReleaseTensorTypeAndShapeInfo
        return status;
    }

    /// <summary>The stream of CUDA that a node runs in.</summary>
    public static nint Stream(nint context, out nint stream)
    {
        fixed (nint* result = &stream)
        {
            return ((delegate* unmanaged<nint, nint*, nint>)At(193))(context, result); // KernelContext_GetGPUComputeStream
        }
    }

    /// <summary>A failure as the runtime takes it.</summary>
    public static nint Failure(string message)
    {
        fixed (byte* text = Encoding.UTF8.GetBytes(message + "\0"))
        {
            return ((delegate* unmanaged<int, byte*, nint>)At(0))(Failed, text); // CreateStatus
        }
    }

    private static void Check(nint status)
    {
        if (status == 0)
        {
            return;
        }

        string message = Marshal.PtrToStringUTF8((nint)((delegate* unmanaged<nint, byte*>)At(2))(status)) ?? ""; // GetErrorMessage
        ((delegate* unmanaged<nint, void>)At(93))(status); // ReleaseStatus
        throw new MLNetLoraException($"ONNX Runtime did not take the fused kernels: {message}");
    }

    private static nint At(int index) => ((nint*)s_table.Value)[index];

    private static nint FindTable()
    {
        nint library;
        try
        {
            library = NativeLibrary.Load("onnxruntime", typeof(OrtEnv).Assembly, null); // the one that the managed package has
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            throw new DeviceException($"{nameof(CudaDevice.FusedKernels)} were asked for, and the native ONNX Runtime could not be found beside the "
                + $"application: {e.Message}", e);
        }

        delegate* unmanaged<nint> getApiBase = (delegate* unmanaged<nint>)NativeLibrary.GetExport(library, "OrtGetApiBase");
        nint table = ((delegate* unmanaged<uint, nint>)(*(nint*)getApiBase()))(Version); // GetApi
        return table != 0 ? table : throw new MLNetLoraException(
            $"{nameof(CudaDevice.FusedKernels)} need ONNX Runtime 1.{Version} or later, and the native one of this application is older.");
    }
}
