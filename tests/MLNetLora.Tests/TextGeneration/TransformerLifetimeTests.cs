using System.Runtime.CompilerServices;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Runtime;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>What a transformer holds outside the managed heap goes with it, however it goes.</summary>
[Collection(Alone.Name)]
public sealed class TransformerLifetimeTests
{
    [Fact]
    public void One_that_is_dropped_without_Dispose_leaves_nothing()
    {
        using Workbench bench = new();
        Collect();
        (long buffers, long sessions) = (NativeBuffer.Live, SessionHandle.Live);
        for (int i = 0; i < 3; i++)
        {
            UseAndDrop(bench);
        }

        Collect();
        Assert.Equal((buffers, sessions), (NativeBuffer.Live, SessionHandle.Live));
    }

    [Fact]
    public void A_dropped_relative_does_not_keep_what_the_others_gave_back()
    {
        using Workbench bench = new();
        Collect();
        (long buffers, long sessions) = (NativeBuffer.Live, SessionHandle.Live);
        DropRelative(bench);
        Collect();
        Assert.Equal((buffers, sessions), (NativeBuffer.Live, SessionHandle.Live));
    }

    [Fact]
    public void Disposing_while_views_are_read_ends_them_with_an_answer_or_an_error()
    {
        using Workbench bench = new();
        for (int round = 0; round < 10; round++)
        {
            QwenLoraTransformer model = bench.Model(options => options.Generation.MaximumNewTokens = 60);
            IDataView rows = bench.Context.Data.LoadFromEnumerable(Enumerable.Range(0, 200).Select(number => new Row($"what {number}", "", "")));
            Exception?[] ends = new Exception?[4];
            Thread[] threads = [.. ends.Select((_, thread) => new Thread(() =>
            {
                try
                {
                    Assert.All(model.Transform(rows).GetColumn<string>("Answer"), Assert.NotNull);
                }
                catch (Exception exception)
                {
                    ends[thread] = exception;
                }
            }))];
            Array.ForEach(threads, thread => thread.Start());
            Thread.Sleep(20 * round);
            model.Dispose();
            Array.ForEach(threads, thread => thread.Join());
            Assert.All(ends, end => Assert.True(end is null or ObjectDisposedException, end?.ToString()));
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void UseAndDrop(Workbench bench)
    {
        QwenLoraTransformer model = bench.Model();
        Assert.NotEmpty(model.Generate("what"));
        Assert.True(NativeBuffer.Live > 0 && SessionHandle.Live > 0);
        Assert.Equal(3, model.Transform(bench.Rows).GetColumn<string>("Answer").Count());
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void DropRelative(Workbench bench)
    {
        using QwenLoraTransformer model = bench.Model();
        _ = model.Generate("what");
        _ = model.With(CancellationToken.None);
    }

    private static void Collect()
    {
        for (int i = 0; i < 5; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }
}
