using System.Runtime.InteropServices;
using MLNetLora.Runtime;

namespace MLNetLora.Cuda.Tests;

/// <summary>The stand-in itself, which the other tests believe.</summary>
public sealed partial class StandInTests : IDisposable
{
    private const string Runtime = "libcudart.so.13";
    private const int InvalidValue = 1;
    private const int OutOfMemory = 2;
    private const int InvalidConfiguration = 9;

    private readonly nint _host = Marshal.AllocHGlobal(2 * sizeof(long));

    public void Dispose() => Marshal.FreeHGlobal(_host);

    [CompilerFact]
    public void It_is_made() => Assert.True(StandIn.Failure is null, StandIn.Failure);

    /// <summary>A function that the provider asks for and that is not there is named.</summary>
    [CudaFact]
    public void The_provider_finds_every_function() => CudaProvider.Require(new CudaDevice());

    [CudaFact]
    public void Copies_have_a_direction()
    {
        nint back = _host + sizeof(long);
        Marshal.WriteInt64(_host, 5);
        Marshal.WriteInt64(back, 0);
        DeviceCounts counts = StandIn.Count(() =>
        {
            Assert.Equal(0, Allocate(out nint device, sizeof(long)));
            Assert.Equal(0, Copy(device, _host, sizeof(long), 1));
            Assert.Equal(0, Copy(device, device, sizeof(long), 3));
            Assert.Equal(0, Copy(back, device, sizeof(long), 2));
            Assert.Equal(0, Free(device));
        });
        Assert.Equal((1, 1), (counts.ToDevice, counts.ToHost));
        Assert.Equal(5, Marshal.ReadInt64(back));
    }

    [CudaFact]
    public void Memory_is_what_is_taken_at_a_time()
    {
        long before = StandIn.Count(() => { }).Bytes;
        DeviceCounts counts = StandIn.Count(() =>
        {
            Assert.Equal(0, Allocate(out nint first, 1_000));
            Assert.Equal(0, Free(first));
            Assert.Equal(InvalidValue, Free(first));
            Assert.Equal(0, Allocate(out nint second, 1));
            Assert.Equal(0, Free(second));
            Assert.Equal(OutOfMemory, Allocate(out _, (nuint)139 << 30));
        });
        Assert.Equal(before + 1_024, counts.PeakBytes);
        Assert.Equal(before, counts.Bytes);
    }

    [CudaFact]
    public void Kernels_are_counted_and_known_by_name()
    {
        nint flash = _host, other = _host + sizeof(long); // any two addresses
        Register(0, flash, 0, "_Z16flash_fwd_kernelv");
        Register(0, other, 0, "_Z5otherv");
        DeviceCounts counts = StandIn.Count(() =>
        {
            Assert.Equal(0, Launch(flash, new Extent(2, 1, 1), new Extent(128, 1, 1), 0, 0, 0));
            Assert.Equal(0, Launch(other, new Extent(2, 1, 1), new Extent(128, 1, 1), 0, 0, 0));
            Assert.Equal(InvalidConfiguration, Launch(other, new Extent(0, 1, 1), new Extent(128, 1, 1), 0, 0, 0));
            Assert.Equal(InvalidConfiguration, Launch(other, new Extent(1, 1, 1), new Extent(2_048, 1, 1), 0, 0, 0));
        });
        Assert.Equal((2, 1), (counts.Launches, counts.Flash));
    }

    [LibraryImport(Runtime, EntryPoint = "cudaMalloc")]
    private static partial int Allocate(out nint memory, nuint size);

    [LibraryImport(Runtime, EntryPoint = "cudaFree")]
    private static partial int Free(nint memory);

    [LibraryImport(Runtime, EntryPoint = "cudaMemcpy")]
    private static partial int Copy(nint to, nint from, nuint size, int kind);

    [LibraryImport(Runtime, EntryPoint = "cudaLaunchKernel")]
    private static partial int Launch(nint function, Extent grid, Extent block, nint arguments, nuint shared, nint stream);

    // The name is kept by the stand-in, as one in a program's code can be.
    private static void Register(nint binary, nint function, nint symbol, string name) =>
        RegisterFunction(binary, function, symbol, Marshal.StringToCoTaskMemUTF8(name));

    [LibraryImport(Runtime, EntryPoint = "__cudaRegisterFunction")]
    private static partial void RegisterFunction(nint binary, nint function, nint symbol, nint name);

    [StructLayout(LayoutKind.Sequential)]
    private readonly record struct Extent(uint X, uint Y, uint Z);
}
