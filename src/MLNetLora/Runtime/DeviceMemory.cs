using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using MLNetLora.Artifacts;
using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>
/// Memory of a device, in an arena of its own: buffers of it are values that sessions of the same device read and write in place. It goes when it was
/// disposed and the last buffer has gone.
/// </summary>
internal sealed class DeviceMemory : NativeHandle
{
    private const long PieceBytes = 1L << 30; // kernels count with 32 bits

    private readonly OnnxSession _zeros;
    private readonly string _output;
    private readonly OrtAllocator _allocator;

    /// <summary>Makes an empty arena.</summary>
    /// <param name="device">The device.</param>
    /// <exception cref="DeviceException">It cannot be used.</exception>
    public DeviceMemory(CudaDevice device)
    {
        CudaProvider.Require(device);
        Device = device;
        Advice advice = new($"while {device} was opened", "");
        _zeros = new OnnxSession(Zeros(out _output), SessionUse.Training, threads: 1, device: device);
        try
        {
            Info = Adopt(NativeCalls.Do("device", advice,
                () => new OrtMemoryInfo("Cuda", OrtAllocatorType.DeviceAllocator, device.DeviceId, OrtMemType.Default)));
            _allocator = Adopt(NativeCalls.Do("device", advice, () => _zeros.Allocator(Info)));
        }
        catch
        {
            Info?.Dispose();
            _zeros.Dispose();
            throw;
        }

        _zeros.Hold(); // until ReleaseHandle: the allocator is the session's
        SetHandle(1); // allocator and session hold the real ones
    }

    /// <summary>The device.</summary>
    public CudaDevice Device { get; }

    /// <summary>How the runtime calls this memory.</summary>
    public OrtMemoryInfo Info { get; }

    /// <summary>Allocates bytes, whose contents are undefined.</summary>
    /// <param name="bytes">How many.</param>
    /// <param name="what">What they are for, for the message of an error.</param>
    /// <param name="address">Where they are.</param>
    /// <returns>What owns them.</returns>
    /// <exception cref="NativeMemoryException">The device has not that much memory.</exception>
    public unsafe OrtValue Allocate(long bytes, string what, out nint address)
    {
        // As a tensor: an allocator's own call counts bytes with 32 bits, and so does a span of bytes. One of 64-bit numbers, which is never looked at,
        // reaches to 17 GB.
        long count = Math.Max(1, (bytes + sizeof(long) - 1) / sizeof(long));
        if (count > int.MaxValue)
        {
            throw new NativeMemoryException(FormattableString.Invariant($"{bytes / 1e9:F2} GB in one piece were asked for {what}, and {Device} gives at most ")
                + "17.18 GB.");
        }

        Advice advice = new($"while memory of {Device} was taken for {what}", Remedy);
        OrtValue value = NativeCalls.Do("device memory", advice,
            () => DeviceUse.Beside(Device, () => OrtValue.CreateAllocatedTensorValue(_allocator, TensorElementType.Int64, [count])));
        address = (nint)Unsafe.AsPointer(ref MemoryMarshal.GetReference(value.GetTensorMutableDataAsSpan<long>()));
        return value;
    }

    /// <summary>Sets a buffer to zero, on the device.</summary>
    /// <param name="buffer">A buffer of this memory, whole floats.</param>
    public void Clear(NativeBuffer buffer)
    {
        try
        {
            for (long at = 0; at < buffer.Bytes; at += PieceBytes)
            {
                long bytes = Math.Min(PieceBytes, buffer.Bytes - at);
                using NativeTensor shape = Tensors.Of([bytes / sizeof(float)], 1);
                using NativeTensor zeros = buffer.View(ElementType.Float32, at, [bytes / sizeof(float)], bytes);
                _zeros.Run(["shape"], [shape], [_output], [zeros]);
            }
        }
        catch (NativeMemoryException e)
        {
            string what = $"The memory of {Device} ran out while some of it was cleared.";
            throw new NativeMemoryException(what + Remedy, e) { What = what };
        }
    }

    private string Remedy => $" Lower BatchSize, or shorten rows or prompts.{Advice.OnDevice(Device)}";

    /// <summary>Copies bytes to or from the device.</summary>
    /// <param name="address">Where they are on the device.</param>
    /// <param name="host">Where they are in the process.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="toDevice">Which way.</param>
    public unsafe void Copy(nint address, void* host, long bytes, bool toDevice)
    {
        if (bytes == 0)
        {
            return;
        }

        if (toDevice)
        {
            Copy(OrtMemoryInfo.DefaultInstance, (nint)host, Info, address, bytes);
        }
        else
        {
            Copy(Info, address, OrtMemoryInfo.DefaultInstance, (nint)host, bytes);
        }
    }

    /// <summary>Copies bytes on the device.</summary>
    /// <param name="from">Where they are.</param>
    /// <param name="to">Where they go.</param>
    /// <param name="bytes">How many.</param>
    public void Copy(nint from, nint to, long bytes)
    {
        if (bytes > 0)
        {
            Copy(Info, from, Info, to, bytes);
        }
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        _allocator.Dispose();
        _zeros.Release();
        _zeros.Dispose();
        Info.Dispose();
        return true;
    }

    private void Copy(OrtMemoryInfo fromInfo, nint from, OrtMemoryInfo toInfo, nint to, long bytes)
    {
        if (Device.DeviceId > 0)
        {
            // A copy does not say which GPU it is for, and on a thread that has used none a context would be made on the first. A run says it.
            using NativeTensor one = Tensors.Of([1L], 1);
            using NativeTensors zero = _zeros.Run(["shape"], [one], [_output]);
        }

        _ = NativeCalls.Do("copy", new Advice($"while it copied {bytes} bytes from or to {Device}", ""), () => DeviceUse.Beside(Device, () =>
        {
            using OrtValue source = OrtValue.CreateTensorValueWithData(fromInfo, TensorElementType.UInt8, [bytes], from, bytes);
            using OrtValue target = OrtValue.CreateTensorValueWithData(toInfo, TensorElementType.UInt8, [bytes], to, bytes);
            OrtEnv.Instance().CopyTensors([source], [target], null);
            return true;
        }));
    }

    /// <summary>A model of one node: so many zeros as it is told.</summary>
    /// <param name="output">What its output is called.</param>
    internal static ModelArtifact Zeros(out string output)
    {
        GraphBuilder graph = new("zeros");
        Value zeros = graph.Zeros(graph.Input("shape", ElementType.Int64, 1), ["n"]);
        graph.Output(zeros); // by its own name: a copy would take as much memory again
        output = zeros.Name;
        return new ModelArtifact("zeros.onnx", graph.ToBytes(), null);
    }
}
