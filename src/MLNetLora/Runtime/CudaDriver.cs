using System.Runtime.InteropServices;

namespace MLNetLora.Runtime;

/// <summary>What NVIDIA's driver says of itself and of a GPU, asked before ONNX Runtime is: what fails there names neither.</summary>
/// <param name="Version">The CUDA version that the driver serves, 13010 being 13.1; 0 where it does not say.</param>
/// <param name="Devices">Number of GPUs; −1 where it does not say.</param>
/// <param name="Capability">The GPU's compute capability, 90 being 9.0; 0 where it does not say.</param>
/// <param name="Name">What the GPU is called; empty where it does not say.</param>
/// <param name="Failure">What starting the driver returned: 0 where it started.</param>
internal sealed unsafe record CudaDriver(int Version, int Devices, int Capability, string Name, int Failure = 0)
{
    /// <summary>Bytes of the GPU's memory, whoever uses it; 0 where the driver does not say.</summary>
    public long Memory { get; init; }

    private const int Success = 0;
    private const int NoDevice = 100; // CUDA_ERROR_NO_DEVICE
    private const int CapabilityMajor = 75; // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    private const int CapabilityMinor = 76;
    private const int NameBytes = 256;

    /// <summary>Asks it.</summary>
    /// <param name="device">Number of the GPU.</param>
    /// <returns>Null where there is no driver.</returns>
    public static CudaDriver? Ask(int device)
    {
        if (!NativeLibrary.TryLoad(OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1", out nint library))
        {
            return null;
        }

        // Not freed: ONNX Runtime uses it, too.
        (int version, int devices, int major, int minor, string name) = (0, -1, 0, 0, "");
        delegate* unmanaged<uint, int> initialize = (delegate* unmanaged<uint, int>)Export("cuInit");
        int started = initialize is null ? Success : initialize(0);
        if ((delegate* unmanaged<int*, int>)Export("cuDriverGetVersion") is var getVersion && getVersion is not null)
        {
            getVersion(&version);
        }

        if (started != Success)
        {
            return started == NoDevice ? new CudaDriver(version, 0, 0, "") : new CudaDriver(version, -1, 0, "", started);
        }

        if ((delegate* unmanaged<int*, int>)Export("cuDeviceGetCount") is var getCount && getCount is not null && getCount(&devices) != Success)
        {
            devices = -1;
        }

        delegate* unmanaged<int*, int, int> get = (delegate* unmanaged<int*, int, int>)Export("cuDeviceGet");
        int handle = 0;
        if (get is null || get(&handle, device) != Success)
        {
            return new CudaDriver(version, devices, 0, "");
        }

        delegate* unmanaged<int*, int, int, int> getAttribute = (delegate* unmanaged<int*, int, int, int>)Export("cuDeviceGetAttribute");
        if (getAttribute is not null)
        {
            getAttribute(&major, CapabilityMajor, handle);
            getAttribute(&minor, CapabilityMinor, handle);
        }

        delegate* unmanaged<byte*, int, int, int> getName = (delegate* unmanaged<byte*, int, int, int>)Export("cuDeviceGetName");
        byte* text = stackalloc byte[NameBytes];
        if (getName is not null && getName(text, NameBytes, handle) == Success)
        {
            name = Marshal.PtrToStringUTF8((nint)text) ?? "";
        }

        nuint memory = 0;
        delegate* unmanaged<nuint*, int, int> getMemory = (delegate* unmanaged<nuint*, int, int>)Export("cuDeviceTotalMem_v2");
        if (getMemory is not null && getMemory(&memory, handle) != Success)
        {
            memory = 0;
        }

        return new CudaDriver(version, devices, (10 * major) + minor, name) { Memory = (long)memory };

        nint Export(string function) => NativeLibrary.TryGetExport(library, function, out nint address) ? address : 0;
    }
}
