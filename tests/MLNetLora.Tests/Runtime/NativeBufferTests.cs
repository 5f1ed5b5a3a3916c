using System.Runtime.CompilerServices;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

[Collection(Alone.Name)]
public sealed class NativeBufferTests
{
    [Fact]
    public unsafe void It_begins_with_zeros_at_a_cache_line()
    {
        using NativeBuffer buffer = new(1000);
        Assert.Equal(0, (nint)buffer.Data % 64);
        Assert.Equal(-1, buffer.Span<byte>(0, 1000).IndexOfAnyExcept((byte)0));
        Assert.Throws<ArgumentOutOfRangeException>(() => buffer.Span<byte>(1, 1000));
    }

    [Fact]
    public void What_is_never_used_takes_no_memory()
    {
        long before = Environment.WorkingSet;
        using FloatBuffer buffer = new(500_000_000);
        buffer.Span(400_000_000, 1)[0] = 1;
        Assert.InRange(Environment.WorkingSet - before, long.MinValue, 200_000_000);
    }

    [Fact]
    public void Too_much_is_an_error_that_says_how_much_and_what_for()
    {
        NativeMemoryException error = Assert.Throws<NativeMemoryException>(() => new NativeBuffer(1L << 62, "a test"));
        Assert.Contains("a test: 4611686018.43 GB", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_a_call_frees_itself_does_not_call_the_collector()
    {
        int before = GC.CollectionCount(GC.MaxGeneration);
        for (int i = 0; i < 2000; i++)
        {
            using NativeBuffer buffer = new(8_000_000, "a cache", isOfOneCall: true);
        }

        Assert.InRange(GC.CollectionCount(GC.MaxGeneration) - before, 0, 2); // others may collect, too
    }

    [Fact]
    public void Used_after_dispose_it_says_so()
    {
        FloatBuffer buffer = new(8);
        NativeTensor view = buffer.View(0, [8]);
        buffer.Dispose();
        Assert.Throws<ObjectDisposedException>(() => buffer.Span(0, 1));
        Assert.Throws<ObjectDisposedException>(() => buffer.View(0, [8]));
        Assert.Throws<ObjectDisposedException>(buffer.Clear);
        Assert.Throws<ObjectDisposedException>(() => view.Value);
    }

    [Fact]
    public void A_tensor_keeps_its_memory()
    {
        long before = NativeBuffer.Live;
        NativeBuffer buffer = new(64);
        NativeTensor view = buffer.View(Onnx.ElementType.Float32, 0, [16], 64);
        buffer.Dispose();
        Assert.Equal(before + 1, NativeBuffer.Live);
        Assert.Equal(0, view.Span<float>()[15]);
        view.Dispose();
        Assert.Equal(before, NativeBuffer.Live);
    }

    [Fact]
    public void Dropped_without_dispose_it_is_freed_with_its_tensors()
    {
        long before = NativeBuffer.LiveBytes;
        Drop();
        Assert.True(Collect(() => NativeBuffer.LiveBytes <= before));
    }

    [Fact]
    public void Discarded_pages_keep_their_address()
    {
        using NativeBuffer buffer = new(64 << 20);
        buffer.Span<byte>(0, 64 << 20).Fill(1);
        long before = Environment.WorkingSet;
        buffer.Discard();
        if (OperatingSystem.IsLinux())
        {
            Assert.InRange(before - Environment.WorkingSet, 48 << 20, long.MaxValue);
            Assert.Equal(0, buffer.Span<byte>(32 << 20, 1)[0]);
        }

        buffer.Span<byte>(0, 64 << 20).Fill(2);
    }

    /// <summary>Collects until something holds.</summary>
    internal static bool Collect(Func<bool> holds)
    {
        for (int i = 0; i < 20 && !holds(); i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        return holds();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Drop()
    {
        FloatBuffer buffer = new(1 << 20);
        buffer.View(0, [1 << 20]);
        buffer.View(8, [8]);
    }
}
