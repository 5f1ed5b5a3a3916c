using System.Diagnostics;
using System.Runtime.CompilerServices;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Tests.Runtime;
using MLNetLora.Text;

namespace MLNetLora.Tests.Inference;

/// <summary>Readers of streams: in time, slow, impatient, gone.</summary>
[Collection(Alone.Name)]
public sealed class AnswerStreamTests
{
    private static readonly InstructionRow s_row = new("Say yes.");

    [Fact]
    public async Task A_stream_begins_with_its_first_piece_and_ends_with_its_reader()
    {
        Endless endless = new();
        IAsyncEnumerator<GeneratedChunk> pieces = AnswerStream.Of(endless.Pieces).GetAsyncEnumerator();
        Assert.False(endless.HasBegun);
        Assert.True(await pieces.MoveNextAsync());
        Assert.False(endless.HasEnded);
        await pieces.DisposeAsync();
        Assert.True(endless.HasEnded);
        await pieces.DisposeAsync();
    }

    [Fact]
    public async Task A_stream_ends_when_its_reader_has_no_patience_for_the_first_piece()
    {
        Endless endless = new() { GivesNothing = true };
        IAsyncEnumerator<GeneratedChunk> pieces = AnswerStream.Of(endless.Pieces).GetAsyncEnumerator();
        ValueTask<bool> first = pieces.MoveNextAsync();
        Assert.True(endless.HasBegun);
        await pieces.DisposeAsync();
        Assert.True(endless.HasEnded);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await first);
    }

    [Fact]
    public async Task A_stream_ends_when_its_reader_is_dropped()
    {
        Endless endless = new();
        await Drop();
        for (int i = 0; i < 200 && !endless.HasEnded; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
            await Task.Delay(50);
        }

        Assert.True(endless.HasEnded);

        async Task Drop() => Assert.True(await AnswerStream.Of(endless.Pieces).GetAsyncEnumerator().MoveNextAsync());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public async Task A_cancellation_names_the_token_that_the_caller_knows(int which)
    {
        CancellationTokenSource[] sources = [new(), new(), new()];
        IAsyncEnumerable<GeneratedChunk> stream = AnswerStream.Of(new Endless().Pieces, sources[0].Token, sources[1].Token);
        OperationCanceledException cancelled = await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (GeneratedChunk _ in stream.WithCancellation(sources[2].Token))
            {
                await sources[which].CancelAsync();
            }
        });
        Assert.Equal(sources[which].Token, cancelled.CancellationToken);
        Array.ForEach(sources, source => source.Dispose());
    }

    [Fact]
    public async Task A_reader_who_takes_his_time_holds_nobody_up_and_gets_the_whole_answer()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 60 };
        string text = "";
        await foreach (GeneratedChunk piece in generator.GenerateAsync(s_row, options))
        {
            if (text.Length == 0)
            {
                // He has one piece when others are through.
                Assert.NotEmpty(generator.Generate([new("Who are you?"), s_row], options)[1].Text);
            }

            text += piece.Text;
        }

        Assert.Equal(generator.Generate([s_row], options)[0].Text, text);
    }

    [Fact]
    public async Task Streams_take_no_threads()
    {
        const int Streams = 500;
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1, engine: new EngineOptions { MaximumRows = 2 });
        GenerationOptions options = new() { MaximumNewTokens = 480, IgnoreEndOfText = true, Temperature = 5, TopK = 0, TopP = 1, Seed = 1 };
        Assert.Equal(1, generator.Generate([s_row], new GenerationOptions { MaximumNewTokens = 1 })[0].NewTokens);
        int before = Threads();
        IAsyncEnumerator<GeneratedChunk>[] readers =
            [.. Enumerable.Range(0, Streams).Select(_ => generator.GenerateAsync(s_row, options).GetAsyncEnumerator())];
        Task<bool>[] moves = [.. readers.Select(reader => reader.MoveNextAsync().AsTask())];
        await Task.WhenAny(moves);
        int more = Threads() - before;
        int waiting = moves.Count(move => !move.IsCompleted); // all but two wait until one of the first has its 480 tokens
        await Task.WhenAll(readers.Select(reader => reader.DisposeAsync().AsTask()));
        Assert.InRange(waiting, Streams / 2, Streams);
        Assert.True(more < 100, $"{more} threads for {waiting} streams");

        static int Threads()
        {
            using Process process = Process.GetCurrentProcess();
            return process.Threads.Count;
        }
    }

    [Fact]
    public async Task Whatever_ends_a_stream_its_memory_is_free_then()
    {
        using TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1, engine: new EngineOptions { PrefixCacheBytes = 0 });
        GenerationOptions options = new() { MaximumNewTokens = 480, IgnoreEndOfText = true, Temperature = 5, TopK = 0, TopP = 1, Seed = 1 };
        NativeCounts before = NativeCounts.Settled();
        for (int i = 0; i < 10; i++)
        {
            using CancellationTokenSource source = new();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
            {
                await foreach (GeneratedChunk _ in generator.GenerateAsync(s_row, options, source.Token))
                {
                    await source.CancelAsync();
                }
            });
            Assert.Equal(before, NativeCounts.Now);

            await foreach (GeneratedChunk _ in generator.GenerateAsync(s_row, options))
            {
                break;
            }

            Assert.Equal(before, NativeCounts.Now);
        }
    }

    [Fact]
    public async Task A_model_that_is_disposed_gives_the_streams_that_have_begun_and_no_others()
    {
        TextGenerator generator = new(Checkpoint.Open(Repository.Nano), threads: 1);
        GenerationOptions options = new() { MaximumNewTokens = 40 };
        GeneratedText expected = generator.Generate([s_row], options)[0];
        IAsyncEnumerator<GeneratedChunk> later = generator.GenerateAsync(s_row, options).GetAsyncEnumerator();
        GeneratedText? answer = null;
        await foreach (GeneratedChunk piece in generator.GenerateAsync(s_row, options))
        {
            generator.Dispose();
            answer = piece.Answer;
        }

        Assert.Equal(expected, answer);
        await Assert.ThrowsAsync<ObjectDisposedException>(async () => await later.MoveNextAsync());
        Assert.Throws<ObjectDisposedException>(() => generator.GenerateAsync(s_row, options));
    }

    /// <summary>An answer without an end.</summary>
    private sealed class Endless
    {
        public bool GivesNothing { get; init; }

        public bool HasBegun { get; private set; }

        public bool HasEnded { get; private set; }

        public async IAsyncEnumerable<GeneratedChunk> Pieces([EnumeratorCancellation] CancellationToken ending)
        {
            HasBegun = true;
            try
            {
                await Task.Delay(GivesNothing ? Timeout.Infinite : 0, ending);
                while (true)
                {
                    ending.ThrowIfCancellationRequested();
                    yield return new GeneratedChunk("x");
                }
            }
            finally
            {
                await Task.Delay(50, CancellationToken.None);
                HasEnded = true;
            }
        }
    }
}
