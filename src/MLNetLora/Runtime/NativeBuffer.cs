using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using MLNetLora.Onnx;

namespace MLNetLora.Runtime;

/// <summary>
/// Zeros outside the managed heap, in the process or on a device. In the process the system gives the pages when they are first written, so what is never
/// used costs nothing. The memory lives as long as the buffer or any of its tensors: a run that reads it cannot lose it, and a buffer that is dropped without
/// Dispose is freed by the finalizer.
/// </summary>
internal sealed unsafe class NativeBuffer : NativeHandle
{
    private const int Alignment = 64; // a cache line, and the widest vector

    private static long s_live;
    private static long s_liveBytes;

    private readonly byte* _data;
    private readonly long _pressure; // bytes that the collector was told of
    private readonly DeviceMemory? _device; // null: in the process
    private readonly OrtValue? _allocation; // of the device

    /// <summary>Allocates zeros.</summary>
    /// <param name="bytes">Size; nothing may be asked for, too.</param>
    /// <param name="what">What the memory is for, for the message of an error.</param>
    /// <param name="isOfOneCall">Whether the call that allocates it frees it, too. The collector is not told of it then: it would run for every call.</param>
    /// <exception cref="NativeMemoryException">There is not that much memory.</exception>
    public NativeBuffer(long bytes, string what = "numbers", bool isOfOneCall = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        Bytes = bytes;
        void* block = null;
        try
        {
            NativeCalls.Before?.Invoke("allocation");
            block = NativeMemory.AllocZeroed(checked((nuint)bytes + Alignment));
        }
        catch (OutOfMemoryException e)
        {
            throw NotEnough(bytes, what, e);
        }

        if (block is null)
        {
            throw NotEnough(bytes, what, null);
        }

        SetHandle((nint)block);
        _data = (byte*)(((nuint)block + Alignment - 1) & ~(nuint)(Alignment - 1));
        Interlocked.Increment(ref s_live);
        Interlocked.Add(ref s_liveBytes, bytes);
        if (bytes > 0 && !isOfOneCall)
        {
            GC.AddMemoryPressure(bytes); // else the collector would see a few hundred bytes and let dropped models wait
            _pressure = bytes;
        }
    }

    /// <summary>Allocates zeros on a device, or in the process.</summary>
    /// <param name="bytes">Size; nothing may be asked for, too.</param>
    /// <param name="what">What the memory is for, for the message of an error.</param>
    /// <param name="device">The device's memory; null for the process's.</param>
    /// <param name="isOfOneCall">As for memory of the process.</param>
    /// <param name="isCleared">Whether memory of a device is zeros; else it is whatever was there, for a caller that writes all of it.</param>
    /// <exception cref="NativeMemoryException">There is not that much memory.</exception>
    public NativeBuffer(long bytes, string what, DeviceMemory? device, bool isOfOneCall = false, bool isCleared = true)
        : this(device is null ? bytes : 0, what, isOfOneCall)
    {
        if (device is null)
        {
            return;
        }

        device.Hold(); // until ReleaseHandle
        _device = device;
        Interlocked.Add(ref s_liveBytes, bytes);
        Bytes = bytes;
        try
        {
            _allocation = Adopt(device.Allocate(bytes, what, out nint address));
            _data = (byte*)address;
            if (isCleared)
            {
                device.Clear(this);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Number of buffers in this process whose memory is not freed yet.</summary>
    public static long Live => Interlocked.Read(ref s_live);

    /// <summary>Bytes of the buffers in this process that are not freed yet.</summary>
    public static long LiveBytes => Interlocked.Read(ref s_liveBytes);

    /// <summary>Size in bytes.</summary>
    public long Bytes { get; }

    /// <summary>Whether it is on a device, where only the runtime reads and writes; <see cref="Read"/> and <see cref="Write"/> copy.</summary>
    public bool IsOnDevice => _device is not null;

    /// <summary>How the runtime calls the memory that it is in.</summary>
    internal OrtMemoryInfo Memory => _device?.Info ?? OrtMemoryInfo.DefaultInstance;

    /// <summary>Where the numbers begin; whoever keeps the address must keep the buffer.</summary>
    public byte* Data
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsDisposed, this);
            return _data;
        }
    }

    /// <summary>Numbers from an offset on; not on a device.</summary>
    /// <param name="byteOffset">Where they begin, in bytes.</param>
    /// <param name="count">How many.</param>
    public Span<T> Span<T>(long byteOffset, int count)
        where T : unmanaged
    {
        if (IsOnDevice)
        {
            throw new InvalidOperationException("Memory of a device is copied, not looked at.");
        }

        RequireInside(byteOffset, (long)count * sizeof(T));
        return new Span<T>(Data + byteOffset, count);
    }

    /// <summary>Copies numbers out.</summary>
    /// <param name="byteOffset">Where they begin, in bytes.</param>
    /// <param name="numbers">Receives them.</param>
    public void Read<T>(long byteOffset, Span<T> numbers)
        where T : unmanaged
    {
        if (_device is null)
        {
            Span<T>(byteOffset, numbers.Length).CopyTo(numbers);
            return;
        }

        RequireInside(byteOffset, (long)numbers.Length * sizeof(T));
        fixed (T* host = numbers)
        {
            _device.Copy((nint)(Data + byteOffset), host, (long)numbers.Length * sizeof(T), toDevice: false);
        }
    }

    /// <summary>Copies numbers in.</summary>
    /// <param name="byteOffset">Where they begin, in bytes.</param>
    /// <param name="numbers">The numbers.</param>
    public void Write<T>(long byteOffset, ReadOnlySpan<T> numbers)
        where T : unmanaged
    {
        if (_device is null)
        {
            numbers.CopyTo(Span<T>(byteOffset, numbers.Length));
            return;
        }

        RequireInside(byteOffset, (long)numbers.Length * sizeof(T));
        fixed (T* host = numbers)
        {
            _device.Copy((nint)(Data + byteOffset), host, (long)numbers.Length * sizeof(T), toDevice: true);
        }
    }

    /// <summary>Copies bytes to another buffer in the same kind of memory.</summary>
    /// <param name="byteOffset">Where they are.</param>
    /// <param name="target">The other buffer.</param>
    /// <param name="targetOffset">Where they go.</param>
    /// <param name="bytes">How many.</param>
    public void CopyTo(long byteOffset, NativeBuffer target, long targetOffset, long bytes)
    {
        RequireInside(byteOffset, bytes);
        target.RequireInside(targetOffset, bytes);
        if (_device is null)
        {
            Buffer.MemoryCopy(Data + byteOffset, target.Data + targetOffset, bytes, bytes);
        }
        else
        {
            _device.Copy((nint)(Data + byteOffset), (nint)(target.Data + targetOffset), bytes);
        }
    }

    /// <summary>A tensor over part of the buffer, whose memory lives at least as long as the tensor.</summary>
    /// <param name="type">Type of its elements.</param>
    /// <param name="byteOffset">Where it begins, in bytes.</param>
    /// <param name="shape">Its shape.</param>
    /// <param name="bytes">Its size in bytes.</param>
    public NativeTensor View(ElementType type, long byteOffset, IReadOnlyList<long> shape, long bytes)
    {
        RequireInside(byteOffset, bytes);
        return NativeTensor.Over(this, type, (nint)(Data + byteOffset), [.. shape], bytes);
    }

    /// <summary>Sets everything to zero.</summary>
    public void Clear()
    {
        if (_device is null)
        {
            NativeMemory.Clear(Data, (nuint)Bytes);
        }
        else
        {
            _device.Clear(this);
        }
    }

    /// <summary>
    /// Gives the memory back to the system while the addresses stay valid, for what a session points to and never reads again. What is read there
    /// afterwards is undefined (zeros on Linux); where the system offers no way, nothing happens.
    /// </summary>
    public void Discard()
    {
        if (IsOnDevice)
        {
            return;
        }

        nuint page = (nuint)Environment.SystemPageSize;
        nuint first = ((nuint)Data + page - 1) / page * page;
        nuint end = ((nuint)Data + (nuint)Bytes) / page * page;
        if (end <= first)
        {
            return;
        }

        if (OperatingSystem.IsLinux() || OperatingSystem.IsMacOS())
        {
            const int DontNeed = 4; // MADV_DONTNEED; on macOS the system takes the pages when it needs them
            _ = SystemMemory.Advise((void*)first, end - first, DontNeed);
        }
        else if (OperatingSystem.IsWindows())
        {
            _ = SystemMemory.DiscardVirtualMemory((void*)first, end - first);
        }
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        NativeMemory.Free((void*)handle);
        _allocation?.Dispose();
        _device?.DangerousRelease();
        Interlocked.Decrement(ref s_live);
        Interlocked.Add(ref s_liveBytes, -Bytes);
        if (_pressure > 0)
        {
            GC.RemoveMemoryPressure(_pressure);
        }

        return true;
    }

    private static NativeMemoryException NotEnough(long bytes, string what, Exception? inner) =>
        new(FormattableString.Invariant($"There is no memory for {what}: {bytes / 1e9:F2} GB were asked for."), inner);

    private void RequireInside(long byteOffset, long bytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(byteOffset);
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(byteOffset + bytes, Bytes);
    }

    private static class SystemMemory
    {
        [DllImport("libc", EntryPoint = "madvise")]
        [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
        public static extern int Advise(void* address, nuint length, int advice);

        [DllImport("kernel32")]
        [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
        public static extern uint DiscardVirtualMemory(void* address, nuint length);
    }
}
