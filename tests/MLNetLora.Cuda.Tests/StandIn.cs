using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Tests;

namespace MLNetLora.Cuda.Tests;

/// <summary>
/// CUDA without a GPU: libraries with the names and functions of CUDA's whose device memory is the process's and whose kernels do nothing. The real provider
/// of ONNX Runtime then creates sessions and runs them: where nodes are placed, what is copied, what is refused and how much memory is taken are real,
/// numbers and times are not. They are a folder that CUDA_STAND_IN names, or ../shared/reference/cuda-stub/lib beside the repository.
/// </summary>
internal static partial class StandIn
{
    // Those that others ask for come first.
    private static readonly string[] s_libraries =
        ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcuda.so.1"];

    private static readonly Lazy<string?> s_missing = new(Load);

    private static string s_log = "";

    /// <summary>What is missing for tests with the provider alone; null: nothing.</summary>
    public static string? PackageMissing => !OperatingSystem.IsLinux() ? "needs Linux"
        : !OrtEnv.Instance().GetAvailableProviders().Contains("CUDAExecutionProvider") ? "needs the Gpu package: dotnet test -p:OnnxRuntimePackage=Gpu"
        : null;

    /// <summary>What is missing for tests with it; null: nothing, and the libraries are loaded.</summary>
    public static string? Missing => s_missing.Value;

    /// <summary>What happened on the device while an action ran.</summary>
    public static DeviceCounts Count(Action action)
    {
        Mark("begin");
        action();
        Mark("end");
        string[] lines = [.. File.ReadLines(s_log)];
        int begin = Array.FindLastIndex(lines, text => text.StartsWith("MARK begin", StringComparison.Ordinal));
        string line = lines.Last(text => text.StartsWith("MARK end", StringComparison.Ordinal));
        int flash = lines[begin..].Count(text => text.Contains("flash_fwd_kernel", StringComparison.Ordinal));
        return new DeviceCounts(Number("launches"), Number("h2d"), Number("d2h"), Number("peak"), flash);

        long Number(string what) => long.Parse(Regex.Match(line, what + @" (\d+)").Groups[1].Value, CultureInfo.InvariantCulture);
    }

    private static string? Load()
    {
        if (PackageMissing is { } package)
        {
            return package;
        }

        string folder = Environment.GetEnvironmentVariable("CUDA_STAND_IN")
            ?? Path.Combine(Repository.Root, "..", "shared", "reference", "cuda-stub", "lib");
        if (s_libraries.FirstOrDefault(name => !File.Exists(Path.Combine(folder, name))) is { } missing)
        {
            return $"needs the stand-in for CUDA's libraries: {Path.Combine(folder, missing)} is not there";
        }

        s_log = Path.Combine(Directory.CreateTempSubdirectory("mlnetlora-cuda-").FullName, "log");
        SetEnvironment("CUDASTUB_LOG", s_log, 1); // before the libraries are loaded; .NET's own would not reach them
        foreach (string name in s_libraries)
        {
            NativeLibrary.Load(Path.GetFullPath(Path.Combine(folder, name)));
        }

        return null;
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetEnvironment(string name, string value, int overwrite);

    [LibraryImport("libcudart.so.13", EntryPoint = "cudastub_mark", StringMarshalling = StringMarshalling.Utf8)]
    private static partial void Mark(string what);
}

/// <summary>What happened on the device.</summary>
/// <param name="Launches">Kernels that were started.</param>
/// <param name="ToDevice">Copies to it.</param>
/// <param name="ToHost">Copies from it.</param>
/// <param name="PeakBytes">Most memory that was taken at a time.</param>
/// <param name="Flash">Kernels of FlashAttention among the launches.</param>
internal sealed record DeviceCounts(long Launches, long ToDevice, long ToHost, long PeakBytes, int Flash);

/// <summary>A test on the stand-in; skipped where it cannot be used, with the reason.</summary>
public sealed class CudaFactAttribute : FactAttribute
{
    public CudaFactAttribute() => Skip = StandIn.Missing;
}

/// <summary>The same with cases.</summary>
public sealed class CudaTheoryAttribute : TheoryAttribute
{
    public CudaTheoryAttribute() => Skip = StandIn.Missing;
}
