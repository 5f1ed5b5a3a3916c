using System.Diagnostics;
using MLNetLora.Artifacts;
using MLNetLora.Onnx;
using MLNetLora.Runtime;

namespace MLNetLora.Tests.Runtime;

/// <summary>A graph of a few hundred products one after another: short with small matrices, many seconds with large ones.</summary>
[Collection(Alone.Name)]
public sealed class OnnxSessionTests
{
    private const int Products = 400;
    private const int Large = 1536; // 7 GFLOP each

    [Fact]
    public async Task A_token_ends_a_run_in_its_middle_and_the_session_runs_again()
    {
        using OnnxSession session = Session();
        using CancellationTokenSource source = new();
        Task run = Task.Run(() => Run(session, Large, source.Token));
        await Task.Delay(200);
        Assert.False(run.IsCompleted);
        long begun = Stopwatch.GetTimestamp();
        await source.CancelAsync();
        OperationCanceledException error = await Assert.ThrowsAnyAsync<OperationCanceledException>(() => run);
        Assert.Equal(source.Token, error.CancellationToken);
        Assert.InRange(Stopwatch.GetElapsedTime(begun).TotalSeconds, 0, 2);
        Assert.Equal(0, Run(session, 4, default)[0]);
    }

    [Fact]
    public void A_token_cancelled_before_runs_nothing()
    {
        using OnnxSession session = Session();
        Assert.ThrowsAny<OperationCanceledException>(() => Run(session, Large, new CancellationToken(canceled: true)));
    }

    /// <summary>What the runtime computes when it loads, it computes from the file: a device's memory is never looked at.</summary>
    [Fact]
    public void Folding_reads_the_file_and_not_what_a_session_is_given()
    {
        using TemporaryFolder folder = new();
        File.WriteAllBytes(folder.File("w"), new byte[8]);
        GraphBuilder graph = new("folded");
        Value w = graph.External("w", ElementType.BFloat16, [4], "w", 0, 8);
        Value x = graph.Input("x", ElementType.Float32, 4);
        graph.Output("y", graph.Add(x, graph.Cast(w, ElementType.Float32)));
        using NativeBuffer buffer = new(8);
        buffer.Write<ushort>(0, [0x3F80, 0x3F80, 0x3F80, 0x3F80]); // ones
        using NativeTensor ones = buffer.View(ElementType.BFloat16, 0, [4], 8);
        using OnnxSession session = new(new ModelArtifact("folded.onnx", graph.ToBytes(), folder.Path), SessionUse.Generation, 1,
            new Dictionary<string, NativeTensor> { ["w"] = ones });
        using NativeTensor input = Tensors.Of(new float[4], 4);
        using NativeTensors outputs = session.Run(["x"], [input], ["y"]);
        Assert.Equal(new float[4], outputs[0].Span<float>().ToArray());
    }

    [Fact]
    public void A_token_ends_the_loading_of_a_session()
    {
        NativeCounts before = NativeCounts.Settled();
        using CancellationTokenSource source = new();
        NativeCalls.Before = _ => source.Cancel(); // after the first look at the token, before the runtime begins
        try
        {
            OperationCanceledException error = Assert.ThrowsAny<OperationCanceledException>(() => Session(source.Token));
            Assert.Equal(source.Token, error.CancellationToken);
        }
        finally
        {
            NativeCalls.Before = null;
        }

        Assert.Equal(before, NativeCounts.Now);
    }

    [Fact]
    public async Task Disposed_during_a_run_everything_goes_when_the_run_has_ended()
    {
        (long sessions, long buffers) = (SessionHandle.Live, NativeBuffer.Live);
        OnnxSession session = Session();
        FloatBuffer memory = new(2 * Large * Large);
        NativeTensor x = memory.View(0, [Large, Large]);
        NativeTensor y = memory.View(Large * Large, [Large, Large]);
        using CancellationTokenSource source = new();
        using ManualResetEventSlim begun = new();
        Task run = Task.Factory.StartNew(
            () =>
            {
                NativeCalls.Before = _ => begun.Set(); // session and tensors are held by then
                session.Run(["x"], [x], ["y"], [y], cancellation: source.Token);
            },
            source.Token,
            TaskCreationOptions.LongRunning,
            TaskScheduler.Default);
        begun.Wait();
        session.Dispose();
        memory.Dispose();
        Assert.False(run.IsCompleted);
        Assert.Equal((sessions + 1, buffers + 1), (SessionHandle.Live, NativeBuffer.Live));
        Assert.Throws<ObjectDisposedException>(() => Run(session, 4, default));
        await source.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => run);
        Assert.Equal((sessions, buffers), (SessionHandle.Live, NativeBuffer.Live));
    }

    [Fact]
    public void A_disposed_tensor_never_reaches_the_runtime()
    {
        using OnnxSession session = Session();
        using FloatBuffer y = new(16);
        NativeTensor x = Tensors.Of(new float[16], 4, 4);
        x.Dispose();
        Assert.Throws<ObjectDisposedException>(() => session.Run(["x"], [x], ["y"], [y.View(0, [4, 4])]));
    }

    [Fact]
    public void Initializers_live_as_long_as_the_session()
    {
        long buffers = NativeBuffer.Live;
        GraphBuilder graph = new("initializer");
        using TemporaryFolder folder = new();
        File.WriteAllBytes(folder.File("w"), new byte[16]);
        graph.Output("y", graph.Gemm(graph.Input("x", ElementType.Float32, "n", 2), graph.External("w", ElementType.Float32, [2, 2], "w", 0, 16)));
        FloatBuffer w = new(4);
        w.Span(0, 4).Fill(1);
        OnnxSession session = new(new ModelArtifact("initializer.onnx", graph.ToBytes(), Path.GetDirectoryName(folder.File("w"))), SessionUse.Training, 1,
            new Dictionary<string, NativeTensor> { ["w"] = w.View(0, [2, 2]) });
        w.Dispose();
        using (NativeTensor x = Tensors.Of([1f, 2f], 1, 2))
        using (NativeTensors results = session.Run(["x"], [x], ["y"]))
        {
            Assert.Equal([3f, 3f], results[0].Span<float>().ToArray());
        }

        session.Dispose();
        Assert.Equal(buffers, NativeBuffer.Live);
    }

    [Fact]
    public void A_wrong_input_gets_no_advice_about_memory()
    {
        using OnnxSession session = Session();
        using NativeTensor x = Tensors.Of(new float[16], 16);
        MLNetLoraException error = Assert.Throws<MLNetLoraException>(() => session.Run(["x"], [x], ["y"]));
        Assert.Contains("products.onnx", error.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("BatchSize", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Too_little_memory_for_an_output_is_an_error_of_its_own()
    {
        GraphBuilder graph = new("expand");
        graph.Output("y", graph.MatMul(graph.Input("a", ElementType.Float32, "n", 1), graph.Input("b", ElementType.Float32, 1, "n")));
        using OnnxSession session = new(new ModelArtifact("training_model.onnx", graph.ToBytes(), null), SessionUse.Training, 1);
        using NativeTensor a = Tensors.Of(new float[20_000_000], 20_000_000, 1);
        using NativeTensor b = Tensors.Of(new float[20_000_000], 1, 20_000_000);
        NativeMemoryException error = Assert.Throws<NativeMemoryException>(() => session.Run(["a", "b"], [a, b], ["y"])); // 1.6 PB
        Assert.Contains("training_model.onnx", error.Message, StringComparison.Ordinal);
        Assert.Contains("BatchSize", error.Message, StringComparison.Ordinal);
    }

    private static OnnxSession Session(CancellationToken cancellation = default)
    {
        GraphBuilder graph = new("products");
        Value x = graph.Input("x", ElementType.Float32, "n", "n");
        Value y = x;
        for (int i = 0; i < Products; i++)
        {
            y = graph.MatMul(y, x);
        }

        graph.Output("y", y);
        return new OnnxSession(new ModelArtifact("products.onnx", graph.ToBytes(), null), SessionUse.Training, 0, cancellation: cancellation);
    }

    private static float[] Run(OnnxSession session, int size, CancellationToken cancellation)
    {
        using NativeTensor x = Tensors.Of(new float[size * size], size, size);
        using NativeTensors results = session.Run(["x"], [x], ["y"], cancellation);
        return results[0].Span<float>().ToArray();
    }
}
