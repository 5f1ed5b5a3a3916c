using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>What of the process's native things is alive; only for tests that run alone.</summary>
internal readonly record struct NativeCounts(long Sessions, long Buffers, long Tensors)
{
    /// <summary>Now, with no regard to what the garbage collector would still free.</summary>
    public static NativeCounts Now => new(SessionHandle.Live, NativeBuffer.Live, NativeTensor.Live);

    /// <summary>Now, after everything that other tests have dropped is gone.</summary>
    public static NativeCounts Settled()
    {
        for (int i = 0; i < 3; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        return Now;
    }

    /// <summary>Whether there is nothing more than before once the garbage collector has run.</summary>
    public static bool Return(NativeCounts before)
    {
        for (int i = 0; i < 20 && !Within(); i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        return Within();

        bool Within() => Now is var now && now.Sessions <= before.Sessions && now.Buffers <= before.Buffers && now.Tensors <= before.Tensors;
    }
}
