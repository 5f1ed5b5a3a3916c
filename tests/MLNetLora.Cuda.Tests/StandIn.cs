using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Tests;

namespace MLNetLora.Cuda.Tests;

/// <summary>
/// CUDA without a GPU: libraries with the names and functions of CUDA's whose device memory is the process's and whose kernels do nothing. The real provider
/// of ONNX Runtime then creates sessions and runs them: where nodes are placed, what is copied, what is refused and how much memory is taken are real,
/// numbers and times are not. They are compiled here from the C files in the folder stand-in, once for each state of these and of the tests.
/// </summary>
internal static partial class StandIn
{
    private const string Runtime = "libcudart.so.13"; // the counts are there

    // A library stands below those that it asks for.
    private static readonly (string Name, string[] Sources, string[] Needs)[] s_libraries =
    [
        (Runtime, ["cudart.c", "memory.c", "launches.c", "graphs.c"], []),
        ("libcublasLt.so.13", ["cublasLt.c"], [Runtime]),
        ("libcublas.so.13", ["cublas.c"], [Runtime]),
        ("libcurand.so.10", ["curand.c"], []),
        ("libcuda.so.1", ["cuda.c", Emulation], [Runtime]),
    ];

    // The library's own kernels, done by the processor.
    private const string Emulation = "../../MLNetLora.Tests/Runtime/KernelEmulation.c";
    private static readonly string s_kernels = Path.Combine(Repository.Root, "src", "MLNetLora", "Runtime", "Kernels");

    private static readonly Lazy<string?> s_failure = new(Load);

    /// <summary>The C files.</summary>
    public static string Sources { get; } = Path.Combine(Repository.Root, "tests", "MLNetLora.Cuda.Tests", "stand-in");

    /// <summary>What is missing for tests with the provider alone; null: nothing.</summary>
    public static string? PackageMissing => !OperatingSystem.IsLinux() ? "needs Linux"
        : !OrtEnv.Instance().GetAvailableProviders().Contains("CUDAExecutionProvider") ? "needs the Gpu package: dotnet test -p:OnnxRuntimePackage=Gpu"
        : null;

    /// <summary>What is missing for tests with it; null: nothing, and the libraries are loaded.</summary>
    public static string? Missing => Compiler.Missing ?? (Failure is null ? null : $"the stand-in was not made: see {nameof(StandInTests)}");

    /// <summary>Why it was not made where nothing is missing; null: it was, and is loaded.</summary>
    public static string? Failure => s_failure.Value;

    /// <summary>What happened on the device while an action ran.</summary>
    public static DeviceCounts Count(Action action)
    {
        Begin("flash_fwd_kernel");
        action();
        Read(out DeviceCounts counts);
        return counts;
    }

    /// <summary>Lets launches of the library's own kernels return an error of the driver while an action runs.</summary>
    public static void RefuseLaunches(int error, Action action)
    {
        RefuseLaunches(error);
        try
        {
            action();
        }
        finally
        {
            RefuseLaunches(0);
        }
    }

    /// <summary>Lets kernels of FlashAttention add one to a number on the device, as gradients are added up; 0 for none.</summary>
    [LibraryImport(Runtime, EntryPoint = "standin_add_to")]
    public static partial void AddTo(nint number);

    /// <summary>Lets the next capture of a graph fail.</summary>
    [LibraryImport(Runtime, EntryPoint = "standin_lose_capture")]
    public static partial void LoseCapture();

    private static string? Load()
    {
        try
        {
            string folder = Make();
            foreach ((string name, _, _) in s_libraries)
            {
                NativeLibrary.Load(Path.Combine(folder, name)); // who asks for the name from now on has this one
            }

            return null;
        }
        catch (Exception e) when (e is InvalidOperationException or DllNotFoundException or IOException or UnauthorizedAccessException)
        {
            return e.Message;
        }
    }

    private static string Make()
    {
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(typeof(StandIn).Module.ModuleVersionId.ToByteArray()); // of the code here, which says how they are compiled
        string emulation = Path.Combine(Sources, Emulation);
        foreach (string source in (IEnumerable<string>)[.. Directory.EnumerateFiles(Sources).Order(StringComparer.Ordinal), emulation,
            Path.ChangeExtension(emulation, ".h"), .. Directory.EnumerateFiles(s_kernels).Order(StringComparer.Ordinal)])
        {
            hash.AppendData(File.ReadAllBytes(source));
        }

        string folder = Path.Combine(AppContext.BaseDirectory, $"stand-in-{Convert.ToHexStringLower(hash.GetHashAndReset())[..16]}");
        if (Directory.Exists(folder))
        {
            return folder;
        }

        // Apart, and then moved: another process may do the same, and what broke off is not taken for done.
        string made = Directory.CreateDirectory($"{folder}.{Environment.ProcessId}").FullName;
        try
        {
            foreach ((string name, string[] sources, string[] needs) in s_libraries)
            {
                // In CUDA's libraries a function has its library's name as its version, and the provider asks for that; in the driver it has none.
                string[] options = name == "libcuda.so.1" ? ["-DWITH_EMULATION", "-I", s_kernels, "-fno-strict-aliasing"] : ["-Wl,--default-symver"];
                Compiler.Make(Path.Combine(made, name), [.. options, .. sources.Select(source => Path.Combine(Sources, source)),
                    .. needs.Select(need => Path.Combine(made, need)), "-lpthread", "-lm"]);
            }

            Directory.Move(made, folder);
        }
        catch (IOException) when (Directory.Exists(folder))
        {
            // The other process was first.
        }
        finally
        {
            if (Directory.Exists(made))
            {
                Directory.Delete(made, recursive: true);
            }
        }

        return folder;
    }

    [LibraryImport(Runtime, EntryPoint = "standin_begin", StringMarshalling = StringMarshalling.Utf8)]
    private static partial void Begin(string chosen);

    [LibraryImport("libcuda.so.1", EntryPoint = "standin_refuse_launches")]
    private static partial void RefuseLaunches(int error);

    [LibraryImport(Runtime, EntryPoint = "standin_read")]
    private static partial void Read(out DeviceCounts counts);
}

/// <summary>What happened on the device; as standin_counts of the C files.</summary>
/// <param name="Launches">Kernels that were started.</param>
/// <param name="Flash">Kernels of FlashAttention among them.</param>
/// <param name="ToDevice">Copies to it.</param>
/// <param name="ToHost">Copies from it.</param>
/// <param name="Bytes">Memory that is taken.</param>
/// <param name="PeakBytes">Most that was at a time.</param>
/// <param name="Captures">Graphs that were captured.</param>
/// <param name="CapturedLaunches">Kernels in them, which are not among those that were started.</param>
/// <param name="CapturedFromHost">Copies in them whose source is not on the device.</param>
/// <param name="Replays">Graphs that were started.</param>
[StructLayout(LayoutKind.Sequential)]
internal readonly record struct DeviceCounts(long Launches, long Flash, long ToDevice, long ToHost, long Bytes, long PeakBytes, long Captures,
    long CapturedLaunches, long CapturedFromHost, long Replays);

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

/// <summary>The same at a size that takes too long for every run.</summary>
public sealed class LargeCudaTheoryAttribute : TheoryAttribute
{
    public LargeCudaTheoryAttribute() => Skip = StandIn.Missing
        ?? (Environment.GetEnvironmentVariable("MLNETLORA_LARGE") == "1" ? null : "takes half a minute and a sparse file of 15 GB: set MLNETLORA_LARGE=1");
}
