using System.Diagnostics;
using System.Reflection;
using Microsoft.ML;
using Microsoft.ML.Data;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Everything that answers comes back when its token says so. What is cancelled here would take minutes; the bound is generous because other
/// tests run beside it.</summary>
public sealed class CancellationTests : IDisposable
{
    private static readonly TimeSpan s_bound = TimeSpan.FromSeconds(10);

    private readonly Workbench _bench = new();

    private IDataView ManyRows => _bench.Context.Data.LoadFromEnumerable(Enumerable.Range(0, 100_000).Select(number => new Row($"what {number}", "", "")));

    public void Dispose() => _bench.Dispose();

    [Fact]
    public void A_pass_over_a_view_ends_by_the_token_of_its_transformer()
    {
        using CancellationTokenSource source = new();
        using QwenLoraTransformer model = Model();
        using QwenLoraTransformer mine = model.With(source.Token);
        IDataView view = mine.Transform(ManyRows);
        OperationCanceledException cancelled = Cancelled(source.Cancel, () => view.GetColumn<string>("Answer").Count());
        Assert.Equal(source.Token, cancelled.CancellationToken);

        // Nobody else is concerned, and what was cancelled stays so.
        Assert.NotEmpty(model.Generate("what"));
        Assert.Throws<OperationCanceledException>(() => mine.Generate("what"));
        Assert.Throws<OperationCanceledException>(() => view.GetColumn<string>("Answer").Count());
    }

    [Fact]
    public void MLNets_own_cancellation_ends_it_too()
    {
        using QwenLoraTransformer model = Model();
        IDataView view = model.Transform(ManyRows);
        MethodInfo cancel = typeof(MLContext).GetMethod("CancelExecution", BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public)!;
        Cancelled(() => cancel.Invoke(_bench.Context, null), () => view.GetColumn<string>("Answer").Count());
    }

    [Fact]
    public void MLNets_own_cancellation_ends_a_training_with_the_last_whole_step()
    {
        MethodInfo cancel = typeof(MLContext).GetMethod("CancelExecution", BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public)!;
        using QwenLoraTransformer model = _bench.Fit(options =>
        {
            options.NumberOfEpochs = 100_000;
            options.ProgressCallback = step => _ = step.Step == 2 ? cancel.Invoke(_bench.Context, null) : null;
        });
        Assert.True(model.TrainingSummary!.WasCancelled);
        Assert.ThrowsAny<OperationCanceledException>(() => _bench.Fit()); // the context stays cancelled
    }

    [Fact]
    public void A_call_ends_by_its_own_token()
    {
        using CancellationTokenSource source = new();
        using QwenLoraTransformer model = Model();
        InstructionRow[] rows = [.. Enumerable.Range(0, 10_000).Select(number => new InstructionRow($"what {number}"))];
        Assert.Equal(source.Token, Cancelled(source.Cancel, () => model.Generate(rows, cancellationToken: source.Token)).CancellationToken);
        Assert.NotEmpty(model.Generate("what"));
    }

    [Fact]
    public async Task A_stream_gives_the_answer_as_it_comes_and_ends_by_either_token()
    {
        using CancellationTokenSource source = new();
        using QwenLoraTransformer model = Model();
        List<GeneratedChunk> pieces = [];
        await foreach (GeneratedChunk piece in model.GenerateAsync("what"))
        {
            pieces.Add(piece);
        }

        Assert.Equal(model.Generate("what"), pieces[^1].Answer!.Text);
        Assert.Equal(pieces[^1].Answer!.Text, string.Concat(pieces.Select(piece => piece.Text)));
        Assert.True(pieces.Count > 2);

        using QwenLoraTransformer mine = model.With(source.Token);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Read(mine.GenerateAsync("what"), source.Cancel));
        using CancellationTokenSource call = new();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Read(model.GenerateAsync("what", cancellationToken: call.Token), call.Cancel));
        using CancellationTokenSource reader = new();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Read(model.GenerateAsync("what"), reader.Cancel, reader.Token));
        await Assert.ThrowsAnyAsync<MLNetLoraException>(() => Read(model.GenerateAsync(string.Concat(Enumerable.Repeat("what ", 5_000))), () => { }));
        mine.Dispose();
        Assert.Throws<ObjectDisposedException>(() => mine.GenerateAsync("what"));

        static async Task Read(IAsyncEnumerable<GeneratedChunk> stream, Action cancel, CancellationToken token = default)
        {
            await foreach (GeneratedChunk _ in stream.WithCancellation(token))
            {
                cancel();
            }
        }
    }

    [Fact]
    public async Task Waiting_for_an_engine_ends_while_it_opens_and_the_opening_goes_on_for_others()
    {
        using CancellationTokenSource source = new();
        using ManualResetEventSlim begun = new();
        using ManualResetEventSlim opened = new();
        int openings = 0;
        SharedGenerator generator = new(_ =>
        {
            openings++;
            begun.Set();
            opened.Wait(CancellationToken.None);
            return new TextGenerator(Checkpoint.Open(_bench.BaseFolder));
        });
        Task<TextGenerator> other = Task.Factory.StartNew(
            () => generator.Open(CancellationToken.None), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        begun.Wait(CancellationToken.None); // the other one waits, whatever the pool's threads do
        Cancelled(source.Cancel, () => generator.Open(source.Token));
        opened.Set();
        Assert.Same(await other, generator.Open(CancellationToken.None));
        Assert.Equal(1, openings);
        generator.Release();
        Assert.Throws<ObjectDisposedException>(() => generator.Open(CancellationToken.None));
    }

    [Fact]
    public async Task Who_waits_for_an_engine_without_a_thread_waits_as_the_others_do()
    {
        using CancellationTokenSource source = new();
        using ManualResetEventSlim opened = new();
        int tries = 0;
        SharedGenerator generator = new(_ =>
        {
            opened.Wait(CancellationToken.None);
            return tries++ == 0 ? throw new CheckpointException("not yet") : new TextGenerator(Checkpoint.Open(_bench.BaseFolder));
        });
        Task<TextGenerator> cancelled = generator.OpenAsync(source.Token);
        Task<TextGenerator> other = generator.OpenAsync(CancellationToken.None);
        await source.CancelAsync();
        Assert.Equal(source.Token, (await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled)).CancellationToken);
        Assert.False(other.IsCompleted);
        opened.Set();
        Assert.Equal("not yet", (await Assert.ThrowsAsync<CheckpointException>(() => other)).Message);
        Assert.Same(await generator.OpenAsync(CancellationToken.None), generator.Open(CancellationToken.None));
        Assert.Equal(2, tries);
        generator.Release();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => generator.OpenAsync(CancellationToken.None));
    }

    [Fact]
    public async Task MLNets_own_cancellation_ends_a_stream()
    {
        using QwenLoraTransformer model = _bench.Model(options =>
            options.Generation = new GenerationOptions { MaximumNewTokens = 200, IgnoreEndOfText = true });
        MethodInfo cancel = typeof(MLContext).GetMethod("CancelExecution", BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public)!;
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            for (int i = 0; i < 10; i++) // it is looked at ten times a second, and an answer may be faster
            {
                await foreach (GeneratedChunk _ in model.GenerateAsync("what"))
                {
                    cancel.Invoke(_bench.Context, null);
                }
            }
        });
    }

    [Fact]
    public void An_engine_for_which_nobody_waits_any_more_is_not_opened()
    {
        using CancellationTokenSource source = new();
        using ManualResetEventSlim ended = new();
        int openings = 0;
        SharedGenerator generator = new(ending =>
        {
            if (openings++ == 0)
            {
                ending.WaitHandle.WaitOne();
                ended.Set();
            }

            return new TextGenerator(Checkpoint.Open(_bench.BaseFolder), cancellation: ending);
        });
        Cancelled(source.Cancel, () => generator.Open(source.Token));
        Assert.True(ended.Wait(TimeSpan.FromMinutes(1)));
        Assert.False(generator.IsOpen);
        Assert.NotNull(generator.Open(CancellationToken.None)); // opened anew
        Assert.Equal(2, openings);
        generator.Release();
    }

    [Fact]
    public void An_engine_that_is_opened_for_a_cancelled_token_is_not_loaded()
    {
        using CancellationTokenSource source = new();
        source.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => new TextGenerator(Checkpoint.Open(_bench.BaseFolder), cancellation: source.Token));
    }

    [Fact]
    public void A_merge_ends_without_a_half_written_file()
    {
        using QwenLoraTransformer model = Model();
        using CancellationTokenSource source = new();
        source.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => model.MergeAndSave(_bench.PathOf("never"), source.Token));
        Assert.False(Directory.Exists(_bench.PathOf("never")));

        // In the middle: the token is seen in the first file, and nothing of that file stays.
        string folder = _bench.PathOf("half");
        Assert.ThrowsAny<OperationCanceledException>(() => Merge.Save(Checkpoint.Open(_bench.BaseFolder), model.Adapter, folder, cancellation: source.Token));
        Assert.Empty(Directory.GetFiles(folder));
    }

    [Fact]
    public void An_engine_that_does_not_open_is_tried_again()
    {
        int tries = 0;
        SharedGenerator generator = new(_ => tries++ == 0
            ? throw new CheckpointException("not yet")
            : new TextGenerator(Checkpoint.Open(_bench.BaseFolder)));
        Assert.Equal("not yet", Assert.Throws<CheckpointException>(() => generator.Open(CancellationToken.None)).Message);
        Assert.NotNull(generator.Open(CancellationToken.None));
        generator.Release();
        Assert.False(generator.IsOpen);
    }

    private QwenLoraTransformer Model() => _bench.Model(options => options.Generation = new GenerationOptions { MaximumNewTokens = 200, BatchSize = 4 });

    private static OperationCanceledException Cancelled(Action cancel, Func<object?> work)
    {
        Thread later = new(() =>
        {
            Thread.Sleep(500);
            cancel();
        }); // one of the pool might have to wait for other tests first
        later.Start();
        Stopwatch watch = Stopwatch.StartNew();
        OperationCanceledException exception = Assert.ThrowsAny<OperationCanceledException>(() => { work(); });
        Assert.True(watch.Elapsed < s_bound, $"It took {watch.Elapsed}.");
        later.Join();
        return exception;
    }
}
