using System.Diagnostics;
using MLNetLora.Tests;

namespace MLNetLora.Cuda.Tests;

/// <summary>What is said where a piece is missing, in processes of their own: with no driver, or with a stand-in for it that says what it is told to.</summary>
public sealed class MissingPiecesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [CompilerFact]
    public void No_driver() => Assert.Contains("NVIDIA's driver was not found (libcuda.so.1). Install it", Use("cuda:0"), StringComparison.Ordinal);

    [CompilerTheory]
    [InlineData(0, 12_080, 1, 90, "NVIDIA's driver serves CUDA 12.8 only. The provider of ONNX Runtime 1.31 needs CUDA 13.0, which is driver R580 or later")]
    [InlineData(100, 13_000, 0, 90, "of GPUs that NVIDIA's driver shows there is none")]
    [InlineData(0, 13_000, 1, 70, "Stand-in of compute capability 7.0, which the provider of ONNX Runtime 1.31 has no code for")]
    [InlineData(0, 13_000, 1, 103, "compute capability 10.3")]
    [InlineData(0, 13_000, 1, 90, "could not be loaded: ")]
    public void A_driver_that_does_not_do(int init, int version, int count, int chip, string expected)
    {
        MakeDriver(init, version, count, chip);
        Assert.Contains(expected, Use("cuda:0"), StringComparison.Ordinal);
    }

    [CompilerFact]
    public void A_library_that_is_missing_is_named()
    {
        MakeDriver(0, 13_000, 1, 90);
        string message = Use("cuda:0");
        Assert.Contains("libcublasLt.so.13: cannot open shared object file", message, StringComparison.Ordinal);
        Assert.Contains("libcublas-13-0", message, StringComparison.Ordinal);
    }

    [CompilerFact]
    public void A_GPU_that_is_not_there_is_counted()
    {
        MakeDriver(0, 13_000, 2, 90);
        Assert.Contains("2, the last being cuda:1", Use("cuda:2"), StringComparison.Ordinal);
    }

    [CompilerTheory]
    [InlineData("-DWITHOUT_MODULES", "FusedKernels of cuda:0 need cuModuleLoadDataEx of NVIDIA's driver, which was not found.")]
    [InlineData("-DMODULE=INVALID_PTX", "returned 218, CUDA_ERROR_INVALID_PTX, a PTX JIT compilation failed. ptxas: the stand-in takes none")]
    [InlineData("-DMODULE=999", "cuModuleLoadDataEx returned 999. ptxas")]
    [InlineData("-DFUNCTION=NOT_FOUND", "swiglu_float32 was not found in their text. cuModuleGetFunction returned 500, CUDA_ERROR_NOT_FOUND.")]
    [InlineData("-DCONTEXT=OUT_OF_MEMORY", "cuDevicePrimaryCtxRetain returned 2, CUDA_ERROR_OUT_OF_MEMORY, out of memory.")]
    [InlineData("-DMODULE=SUCCESS", "libcublasLt.so.13: cannot open shared object file")] // they were loaded
    public void A_driver_that_does_not_take_the_fused_kernels(string option, string expected)
    {
        MakeDriver(0, 13_000, 1, 90, option);
        Assert.Contains(expected, Use("cuda:0", "fused"), StringComparison.Ordinal);
        Assert.Contains("libcublasLt.so.13", Use("cuda:0"), StringComparison.Ordinal); // nobody asks where they are not wanted
    }

    private void MakeDriver(int init, int version, int count, int chip, string option = "-DMODULE=SUCCESS") => Compiler.Make(_folder.File("libcuda.so.1"),
        Path.Combine(StandIn.Sources, "cuda.c"), $"-DINIT={init}", $"-DVERSION={version}", $"-DDEVICES={count}", $"-DCHIP={chip}", option);

    private string Use(string device, params IEnumerable<string> options)
    {
        ProcessStartInfo start = new("dotnet", [Path.Combine(AppContext.BaseDirectory, "MLNetLora.LoadProbe.dll"), "device", device, .. options])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["LD_LIBRARY_PATH"] = _folder.Path;
        using Process process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        return output;
    }
}
