using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>
/// Lets sessions on a GPU know the operators of <see cref="FusedOperators"/>: the runtime is given functions of this class and calls them. A device's domain
/// is made once and stays for the process, as the runtime asks of what sessions hold on to.
/// </summary>
internal static unsafe class CustomOperators
{
    private static readonly Lock s_lock = new();
    private static readonly Dictionary<int, nint> s_domains = [];
    private static readonly byte* s_provider = (byte*)Marshal.StringToCoTaskMemUTF8("CUDAExecutionProvider");

    /// <summary>Adds them to the options of a session.</summary>
    /// <param name="options">The options.</param>
    /// <param name="device">The GPU.</param>
    /// <exception cref="DeviceException">The driver does not take the kernels.</exception>
    public static void AddTo(SessionOptions options, CudaDevice device)
    {
        CudaKernels kernels = CudaKernels.Of(device);
        lock (s_lock)
        {
            if (!s_domains.TryGetValue(device.DeviceId, out nint domain))
            {
                domain = OrtFunctions.CreateDomain((byte*)Marshal.StringToCoTaskMemUTF8(FusedOperators.Domain));
                foreach (FusedKernel kernel in FusedKernel.All)
                {
                    OrtFunctions.Add(domain, Describe(new Node(kernel, kernels)));
                }

                s_domains[device.DeviceId] = domain;
            }

            OrtFunctions.AddDomain(options.DangerousGetHandle(), domain);
        }
    }

    private static CustomOperator* Describe(Node node)
    {
        CustomOperator* op = (CustomOperator*)NativeMemory.AllocZeroed((nuint)sizeof(CustomOperator));
        op->Version = OrtFunctions.Version;
        op->GetName = &GetName;
        op->GetExecutionProviderType = &GetProvider;
        op->GetInputType = &GetInputType;
        op->GetInputTypeCount = &GetInputCount;
        op->GetOutputType = &GetOutputType;
        op->GetOutputTypeCount = &GetOutputCount;
        op->KernelDestroy = &Destroy;
        op->GetInputCharacteristic = &GetZero;
        op->GetOutputCharacteristic = &GetZero;
        op->GetInputMemoryType = &GetZero;
        op->CreateKernelV2 = &Create;
        op->KernelComputeV2 = &Compute;
        op->GetStartVersion = &GetFirstVersion;
        op->GetEndVersion = &GetLastVersion;
        op->GetMayInplace = node.Kernel.Operator switch
        {
            FusedOperators.SwiGlu => &GetPlacesOfActivation,
            FusedOperators.SwiGluGrad => &GetPlacesOfItsGradient,
            _ => &GetPlacesOfNorm,
        };
        op->ReleaseMayInplace = &ReleasePlaces;
        op->Handle = GCHandle.ToIntPtr(GCHandle.Alloc(node));
        op->Name = (byte*)Marshal.StringToCoTaskMemUTF8(node.Kernel.Operator);
        return op;
    }

    private static Node Of(CustomOperator* op) => (Node)GCHandle.FromIntPtr(op->Handle).Target!;

    [UnmanagedCallersOnly]
    private static byte* GetName(CustomOperator* op) => op->Name;

    [UnmanagedCallersOnly]
    private static byte* GetProvider(CustomOperator* op) => s_provider;

    // ONNX Runtime's numbers of types are those of ONNX.
    [UnmanagedCallersOnly]
    private static int GetInputType(CustomOperator* op, nuint index) => (int)Of(op).Kernel.InputType((int)index);

    [UnmanagedCallersOnly]
    private static nuint GetInputCount(CustomOperator* op) => (nuint)Of(op).Kernel.Inputs;

    [UnmanagedCallersOnly]
    private static int GetOutputType(CustomOperator* op, nuint index) => (int)Of(op).Kernel.Type;

    [UnmanagedCallersOnly]
    private static nuint GetOutputCount(CustomOperator* op) => (nuint)Of(op).Kernel.Outputs;

    // INPUT_OUTPUT_REQUIRED, OrtMemTypeDefault
    [UnmanagedCallersOnly]
    private static int GetZero(CustomOperator* op, nuint index) => 0;

    [UnmanagedCallersOnly]
    private static int GetFirstVersion(CustomOperator* op) => 1;

    [UnmanagedCallersOnly]
    private static int GetLastVersion(CustomOperator* op) => int.MaxValue;

    // A node has no state: what stands for it is the operator itself.
    [UnmanagedCallersOnly]
    private static nint Create(CustomOperator* op, nint api, nint info, nint* kernel)
    {
        *kernel = (nint)op;
        return 0;
    }

    [UnmanagedCallersOnly]
    private static void Destroy(nint kernel)
    {
    }

    [UnmanagedCallersOnly]
    private static nint Compute(nint kernel, nint context)
    {
        try
        {
            (FusedKernel fused, CudaKernels kernels) = Of((CustomOperator*)kernel);
            return fused.Run(kernels, context);
        }
        catch (Exception e) // none goes through native code
        {
            return OrtFunctions.Failure(e.Message);
        }
    }

    // Outputs may take the memory of inputs that are done with, no two of them that of the same: y that of gate or up;
    [UnmanagedCallersOnly]
    private static nuint GetPlacesOfActivation(int** inputs, int** outputs) => Places(inputs, outputs, (0, 0), (1, 0));

    // dgate that of dy or gate, dup that of up;
    [UnmanagedCallersOnly]
    private static nuint GetPlacesOfItsGradient(int** inputs, int** outputs) => Places(inputs, outputs, (0, 0), (1, 0), (2, 1));

    // dx that of dy or x.
    [UnmanagedCallersOnly]
    private static nuint GetPlacesOfNorm(int** inputs, int** outputs) => Places(inputs, outputs, (0, 0), (1, 0));

    private static nuint Places(int** inputs, int** outputs, params ReadOnlySpan<(int Input, int Output)> places)
    {
        *inputs = (int*)NativeMemory.Alloc((nuint)places.Length, sizeof(int));
        *outputs = (int*)NativeMemory.Alloc((nuint)places.Length, sizeof(int));
        for (int i = 0; i < places.Length; i++)
        {
            ((*inputs)[i], (*outputs)[i]) = places[i];
        }

        return (nuint)places.Length;
    }

    [UnmanagedCallersOnly]
    private static void ReleasePlaces(int* inputs, int* outputs)
    {
        NativeMemory.Free(inputs);
        NativeMemory.Free(outputs);
    }

    /// <summary>What the runtime's struct stands for.</summary>
    private sealed record Node(FusedKernel Kernel, CudaKernels Device);
}
