using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Runtime;

/// <summary>ONNX Runtime's CUDA provider: whether it can be used here, and if not, what is missing.</summary>
internal static class CudaProvider
{
    private const string Name = "CUDAExecutionProvider";
    private const int Toolkit = 13_000; // what the provider of 1.31 is built with

    private const string Packages =
        "The provider of ONNX Runtime 1.31 is built for CUDA 13: install cuBLAS, cuRAND and the CUDA runtime of it, on Debian and Ubuntu libcublas-13-0, "
        + "libcurand-13-0 and cuda-cudart-13-0 of NVIDIA's repository, or take a container image such as nvidia/cuda:13.0.0-runtime-ubuntu24.04.";

    // Compute capabilities that the provider has code for. Code runs on later chips of the same major number, and on no other.
    private static readonly int[] s_chips = [75, 80, 86, 89, 90, 120];

    private static readonly Lock s_lock = new();
    private static bool s_isRegistered;

    /// <summary>Throws where a GPU cannot be used.</summary>
    /// <param name="device">The GPU.</param>
    /// <exception cref="DeviceException">It cannot; the message names what is missing and what to do.</exception>
    public static void Require(CudaDevice device)
    {
        string[] providers = NativeCalls.Do("providers", new Advice("while its providers were listed", ""), () => OrtEnv.Instance().GetAvailableProviders());
        if (!providers.Contains(Name))
        {
            throw new DeviceException($"{device} was asked for, and the native ONNX Runtime of this application has no CUDA provider (it has "
                + $"{string.Join(", ", providers)}). Reference Microsoft.ML.OnnxRuntime.Gpu in the place of Microsoft.ML.OnnxRuntime; in this repository "
                + "build with -p:OnnxRuntimePackage=Gpu.");
        }

        _ = DeviceUse.Beside(device, () =>
        {
            CudaDriver driver = CudaDriver.Ask(device.DeviceId) ?? throw new DeviceException(
                $"{device} was asked for, and NVIDIA's driver was not found ({(OperatingSystem.IsWindows() ? "nvcuda.dll" : "libcuda.so.1")}). Install it, or "
                + "in a container start that with access to the GPU (docker run --gpus all).");
            RequireDevice(device, driver);
            if (device.FusedKernels)
            {
                _ = CudaKernels.Of(device);
            }

            Register(device);
            using OrtCUDAProviderOptions options = Options(device);
            return true;
        });
    }

    /// <summary>Whether a GPU computes in bfloat16.</summary>
    public static bool HasBFloat16(CudaDevice device) => CudaDriver.Ask(device.DeviceId) is not { Capability: > 0 and < 80 };

    /// <summary>Adds the provider to the options of a session.</summary>
    /// <param name="options">The options.</param>
    /// <param name="device">The GPU.</param>
    /// <param name="captures">Whether runs may be captured as CUDA graphs.</param>
    public static void Append(SessionOptions options, CudaDevice device, bool captures) => DeviceUse.Beside(device, () =>
    {
        using OrtCUDAProviderOptions cuda = Options(device, captures); // takes some memory of the device for a moment, to see whether it answers
        options.AppendExecutionProvider_CUDA(cuda);
        if (device.FusedKernels)
        {
            CustomOperators.AddTo(options, device);
        }

        return true;
    });

    private static OrtCUDAProviderOptions Options(CudaDevice device, bool captures = false)
    {
        OrtCUDAProviderOptions cuda = new();
        try
        {
            cuda.UpdateOptions(device.ToProviderOptions(captures));
            return cuda;
        }
        catch (OnnxRuntimeException e) when (e.Message.Contains("device_id", StringComparison.Ordinal))
        {
            cuda.Dispose();
            throw new DeviceException($"{device} was asked for, and CUDA shows no GPU of that number. Set {nameof(CudaDevice.DeviceId)}, or "
                + $"CUDA_VISIBLE_DEVICES. ONNX Runtime says: {e.Message}", e);
        }
        catch (OnnxRuntimeException e)
        {
            cuda.Dispose();
            throw new OptionException($"ONNX Runtime's CUDA provider does not take the {nameof(CudaDevice.ProviderOptions)} of {device}: {e.Message}", e);
        }
    }

    /// <summary>What can be told from the driver.</summary>
    internal static void RequireDevice(CudaDevice device, CudaDriver driver)
    {
        if (driver.Version is > 0 and < Toolkit)
        {
            throw new DeviceException(FormattableString.Invariant($"{device} was asked for, and NVIDIA's driver serves CUDA ")
                + FormattableString.Invariant($"{driver.Version / 1000}.{driver.Version % 1000 / 10} only. The provider of ONNX Runtime 1.31 needs CUDA ")
                + "13.0, which is driver R580 or later: update the driver.");
        }

        if (driver.Failure != 0)
        {
            throw new DeviceException(FormattableString.Invariant($"{device} was asked for, and NVIDIA's driver did not start: cuInit returned ")
                + FormattableString.Invariant($"{driver.Failure} (803 is a driver and a library of two versions, 34 a stub). See what nvidia-smi says."));
        }

        if (driver.Devices >= 0 && device.DeviceId >= driver.Devices)
        {
            string there = driver.Devices switch { 0 => "none", 1 => "one, cuda:0", int count => $"{count}, the last being cuda:{count - 1}" };
            throw new DeviceException($"{device} was asked for; of GPUs that NVIDIA's driver shows there is {there}. "
                + $"Set {nameof(CudaDevice.DeviceId)}, or CUDA_VISIBLE_DEVICES.");
        }

        if (driver.Capability > 0 && !s_chips.Any(chip => chip / 10 == driver.Capability / 10 && chip <= driver.Capability))
        {
            throw new DeviceException(FormattableString.Invariant($"{device} is {(driver.Name.Length > 0 ? driver.Name : "a GPU")} of compute capability ")
                + FormattableString.Invariant($"{driver.Capability / 10}.{driver.Capability % 10}, which the provider of ONNX Runtime 1.31 has no code for. ")
                + $"It has code for {string.Join(", ", s_chips.Select(chip => FormattableString.Invariant($"{chip / 10}.{chip % 10}")))}.");
        }
    }

    /// <summary>
    /// Loads the provider by its path: the loader then says which library is missing, which the provider's own way does not, and tensors can be copied from
    /// and to the device.
    /// </summary>
    private static void Register(CudaDevice device)
    {
        lock (s_lock)
        {
            if (s_isRegistered)
            {
                return;
            }

            string path = Find() ?? throw new DeviceException(
                $"{device} was asked for, and {FileName} is not beside the application. It comes with the package Microsoft.ML.OnnxRuntime.Gpu.Linux or "
                + "Microsoft.ML.OnnxRuntime.Gpu.Windows; a self-contained build must be made for the right runtime identifier.");
            try
            {
                OrtEnv.Instance().RegisterExecutionProviderLibrary(Name, path);
            }
            catch (OnnxRuntimeException e) when (e.Message.Contains("already registered", StringComparison.OrdinalIgnoreCase))
            {
                // By the application: it is the same library.
            }
            catch (OnnxRuntimeException e)
            {
                throw new DeviceException($"{device} was asked for, and ONNX Runtime's CUDA provider could not be loaded: {e.Message} {Packages}", e);
            }

            s_isRegistered = true;
        }
    }

    private static string FileName => OperatingSystem.IsWindows() ? "onnxruntime_providers_cuda.dll" : "libonnxruntime_providers_cuda.so";

    private static string? Find()
    {
        string identifier = OperatingSystem.IsWindows() ? "win-x64" : "linux-x64";
        string searched = AppContext.GetData("NATIVE_DLL_SEARCH_DIRECTORIES") as string ?? "";
        IEnumerable<string> folders =
        [
            AppContext.BaseDirectory,
            Path.Combine(AppContext.BaseDirectory, "runtimes", identifier, "native"),
            .. searched.Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries),
        ];
        return folders.Select(folder => Path.Combine(folder, FileName)).FirstOrDefault(File.Exists);
    }
}
