using System.Runtime.InteropServices;
using System.Text;

namespace MLNetLora.Runtime;

/// <summary>
/// The fused kernels on a GPU: the driver compiles their text (Kernels/fused.ptx) once in a process, in the context that CUDA's runtime and with it ONNX
/// Runtime uses, and they stay. Thread-safe.
/// </summary>
internal sealed unsafe class CudaKernels
{
    private const int LogBytes = 4096;

    // CUjit_option
    private const int ErrorLog = 5;
    private const int ErrorLogBytes = 6;

    private static readonly Lock s_lock = new();
    private static readonly Dictionary<int, CudaKernels> s_loaded = [];

    private readonly CudaDevice _device;
    private readonly nint _library;
    private readonly nint _context;
    private readonly Dictionary<string, nint> _functions = [];

    private readonly delegate* unmanaged<nint, int> _push;
    private readonly delegate* unmanaged<nint*, int> _pop;
    private readonly delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int> _launch;

    private CudaKernels(CudaDevice device)
    {
        _device = device;
        string name = OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1";
        _library = NativeLibrary.TryLoad(name, out nint library) ? library : throw Missing(name);
        _push = (delegate* unmanaged<nint, int>)Export("cuCtxPushCurrent_v2");
        _pop = (delegate* unmanaged<nint*, int>)Export("cuCtxPopCurrent_v2");
        _launch = (delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)Export("cuLaunchKernel");
        delegate* unmanaged<int, int> release = (delegate* unmanaged<int, int>)Export("cuDevicePrimaryCtxRelease_v2");
        Check("cuInit", ((delegate* unmanaged<uint, int>)Export("cuInit"))(0));
        int handle;
        Check("cuDeviceGet", ((delegate* unmanaged<int*, int, int>)Export("cuDeviceGet"))(&handle, device.DeviceId));
        nint context;
        Check("cuDevicePrimaryCtxRetain", ((delegate* unmanaged<nint*, int, int>)Export("cuDevicePrimaryCtxRetain"))(&context, handle));
        _context = context;
        try
        {
            Load();
        }
        catch
        {
            release(handle);
            throw;
        }
    }

    /// <summary>The kernels of a device.</summary>
    /// <exception cref="DeviceException">The driver does not take them.</exception>
    public static CudaKernels Of(CudaDevice device)
    {
        lock (s_lock)
        {
            return s_loaded.TryGetValue(device.DeviceId, out CudaKernels? known) ? known : s_loaded[device.DeviceId] = new CudaKernels(device);
        }
    }

    /// <summary>Puts a kernel into a stream.</summary>
    /// <param name="function">Its name in the text.</param>
    /// <param name="size">Blocks and threads.</param>
    /// <param name="stream">The stream, of the device's own context.</param>
    /// <param name="arguments">Where each argument is.</param>
    /// <returns>What went wrong; null: nothing.</returns>
    public string? Launch(string function, KernelSize size, nint stream, void** arguments)
    {
        int result = _push(_context);
        if (result != 0)
        {
            return Failure("cuCtxPushCurrent", result);
        }

        result = _launch(_functions[function], size.Blocks, 1, 1, size.Threads, 1, 1, 0, stream, arguments, null);
        nint popped;
        _pop(&popped);
        return result == 0 ? null : $"{function} was not started with {size.Blocks} blocks of {size.Threads} threads. {Failure("cuLaunchKernel", result)}";
    }

    private void Load()
    {
        Check("cuCtxPushCurrent", _push(_context));
        try
        {
            nint module = LoadModule();
            delegate* unmanaged<nint*, nint, byte*, int> find = (delegate* unmanaged<nint*, nint, byte*, int>)Export("cuModuleGetFunction");
            foreach (FusedKernel kernel in FusedKernel.All)
            {
                nint function;
                int result;
                fixed (byte* name = Encoding.UTF8.GetBytes(kernel.Function + "\0"))
                {
                    result = find(&function, module, name);
                }

                if (result != 0)
                {
                    ((delegate* unmanaged<nint, int>)Export("cuModuleUnload"))(module);
                    throw Refused($"{kernel.Function} was not found in their text. {Failure("cuModuleGetFunction", result)}");
                }

                _functions[kernel.Function] = function;
            }
        }
        finally
        {
            nint popped;
            _pop(&popped);
        }
    }

    private nint LoadModule()
    {
        delegate* unmanaged<nint*, byte*, uint, int*, void**, int> load =
            (delegate* unmanaged<nint*, byte*, uint, int*, void**, int>)Export("cuModuleLoadDataEx");
        byte* log = stackalloc byte[LogBytes];
        *log = 0;
        int* options = stackalloc int[] { ErrorLog, ErrorLogBytes };
        void** values = stackalloc void*[] { log, (void*)LogBytes };
        nint module;
        int result;
        fixed (byte* text = Text())
        {
            result = load(&module, text, 2, options, values);
        }

        return result == 0 ? module : throw Refused($"{Failure("cuModuleLoadDataEx", result)} {Marshal.PtrToStringUTF8((nint)log)}".TrimEnd());
    }

    /// <summary>The kernels' text, as a C string.</summary>
    private static byte[] Text()
    {
        using Stream stream = typeof(CudaKernels).Assembly.GetManifestResourceStream("fused.ptx")!;
        byte[] text = new byte[stream.Length + 1];
        stream.ReadExactly(text, 0, (int)stream.Length);
        return text;
    }

    private nint Export(string function) => NativeLibrary.TryGetExport(_library, function, out nint address) ? address : throw Missing(function);

    private void Check(string function, int result)
    {
        if (result != 0)
        {
            throw Refused(Failure(function, result));
        }
    }

    /// <summary>What a function of the driver returned, in its words.</summary>
    private string Failure(string function, int result)
    {
        return FormattableString.Invariant($"{function} returned {result}{Says("cuGetErrorName")}{Says("cuGetErrorString")}.");

        string Says(string asked)
        {
            byte* text = null;
            bool isSaid = NativeLibrary.TryGetExport(_library, asked, out nint address)
                && ((delegate* unmanaged<int, byte**, int>)address)(result, &text) == 0 && text is not null;
            return isSaid ? ", " + Marshal.PtrToStringUTF8((nint)text) : "";
        }
    }

    private DeviceException Missing(string what) => new($"{nameof(CudaDevice.FusedKernels)} of {_device} need {what} of NVIDIA's driver, which was not found. "
        + $"Update the driver, or leave {nameof(CudaDevice.FusedKernels)} false.");

    private DeviceException Refused(string why) => new(
        $"NVIDIA's driver did not take the {nameof(CudaDevice.FusedKernels)} of {_device}: {why} Leave {nameof(CudaDevice.FusedKernels)} false: the same is "
        + "computed by ONNX Runtime's own kernels then.");
}
