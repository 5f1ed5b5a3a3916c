using System.Diagnostics;
using System.Runtime.InteropServices;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>The fused kernels, compiled from their CUDA C for the processor with gcc: KernelEmulation.c.</summary>
internal static unsafe class KernelEmulation
{
    private static readonly Lazy<nint> s_emulate = new(() => NativeLibrary.GetExport(NativeLibrary.Load(Compile()), "emulate"));

    /// <summary>The kernels' files.</summary>
    public static string Sources { get; } = Path.Combine(Repository.Root, "src", "MLNetLora", "Runtime", "Kernels");

    /// <summary>What is missing for it; null: nothing.</summary>
    public static string? Missing => !OperatingSystem.IsLinux() ? "needs Linux"
        : !Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(folder => File.Exists(Path.Combine(folder, "gcc"))) ? "needs gcc" : null;

    /// <summary>Starts a kernel as it would be started on a GPU.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="rows">Rows; where each number is computed alone, numbers.</param>
    /// <param name="columns">Numbers of a row, or one.</param>
    /// <param name="tensors">Inputs, then outputs.</param>
    public static void Run(FusedKernel kernel, long rows, long columns, params ReadOnlySpan<nint> tensors)
    {
        long* values = stackalloc long[tensors.Length + 1];
        void** arguments = stackalloc void*[tensors.Length + 1];
        for (int i = 0; i <= tensors.Length; i++)
        {
            values[i] = i < tensors.Length ? tensors[i] : kernel.Operator == FusedOperators.RmsNormGrad ? columns : rows;
            arguments[i] = values + i;
        }

        KernelSize size = kernel.Size(rows, columns);
        fixed (byte* name = System.Text.Encoding.UTF8.GetBytes(kernel.Function + "\0"))
        {
            lock (s_emulate)
            {
                Assert.Equal(0, ((delegate* unmanaged<byte*, uint, uint, void**, int>)s_emulate.Value)(name, size.Blocks, size.Threads, arguments));
            }
        }
    }

    private static string Compile()
    {
        string library = Path.Combine(AppContext.BaseDirectory, "libkernelemulation.so");
        ProcessStartInfo start = new("gcc", ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fno-strict-aliasing", "-shared", "-fPIC",
            "-I", Sources, "-o", library, Path.Combine(Repository.Root, "tests", "MLNetLora.Tests", "Runtime", "KernelEmulation.c"), "-lm"])
        {
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start)!;
        string errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? library : throw new InvalidOperationException(errors);
    }
}

/// <summary>A test of kernels that are compiled for the processor; skipped where they cannot be, with the reason.</summary>
public sealed class EmulationTheoryAttribute : TheoryAttribute
{
    public EmulationTheoryAttribute() => Skip = KernelEmulation.Missing;
}
