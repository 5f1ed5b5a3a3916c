using System.Runtime.CompilerServices;
using System.Threading.Channels;

namespace MLNetLora.Inference;

/// <summary>Pieces of an answer for a reader that waits for them, from a generation that runs on a thread of its own.</summary>
internal static class AnswerStream
{
    /// <summary>How many pieces may wait for their reader before the generation waits too.</summary>
    private const int PiecesAhead = 16;

    /// <summary>Starts a generation when the first piece is asked for.</summary>
    /// <param name="generate">
    /// Generates the answer and gives its pieces out; ends soon with an <see cref="OperationCanceledException"/> when its token says so, which it does when the
    /// enumerator is disposed too.
    /// </param>
    /// <param name="cancellation">Ends the enumeration.</param>
    /// <returns>The pieces, the last of which holds the whole answer; the answer's error is thrown.</returns>
    public static IAsyncEnumerable<GeneratedChunk> Of(
        Func<Action<GeneratedChunk>, CancellationToken, GeneratedText> generate,
        CancellationToken cancellation) => new Answer(generate, cancellation);

    /// <summary>The pieces.</summary>
    /// <param name="generate">See <see cref="Of"/>.</param>
    /// <param name="abandoned">Ends the generation: its reader was dropped.</param>
    /// <param name="cancellation">Ends the enumeration.</param>
    private static async IAsyncEnumerable<GeneratedChunk> Pieces(
        Func<Action<GeneratedChunk>, CancellationToken, GeneratedText> generate,
        CancellationToken abandoned,
        [EnumeratorCancellation] CancellationToken cancellation)
    {
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation, abandoned);
        int tokens = 0; // that were given out
        Channel<GeneratedChunk> pieces = Channel.CreateBounded<GeneratedChunk>(
            new BoundedChannelOptions(PiecesAhead) { SingleReader = true, SingleWriter = true });
        // A thread of its own, because it waits for the engine, and for its reader, without giving the thread back.
        Task generation = Task.Factory.StartNew(Run, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        try
        {
            await foreach (GeneratedChunk piece in pieces.Reader.ReadAllAsync(cancellation).ConfigureAwait(false))
            {
                cancellation.ThrowIfCancellationRequested(); // pieces that wait are read without a look at the token
                yield return piece;
            }
        }
        finally
        {
            await ending.CancelAsync().ConfigureAwait(false);
            await generation.ConfigureAwait(false);
        }

        void Run()
        {
            try
            {
                GeneratedText answer = generate(Write, ending.Token);
                if (answer.Error is { } error)
                {
                    throw error;
                }

                Write(new GeneratedChunk("") { Answer = answer, Tokens = answer.Tokens?.Skip(tokens).ToArray() });
                pieces.Writer.Complete();
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                pieces.Writer.Complete(new OperationCanceledException(cancellation));
            }
            catch (Exception error)
            {
                pieces.Writer.Complete(error);
            }
        }

        void Write(GeneratedChunk piece)
        {
            tokens += piece.Tokens?.Count ?? 0;
            pieces.Writer.WriteAsync(piece, ending.Token).AsTask().GetAwaiter().GetResult();
        }
    }

    /// <summary>An answer that is generated anew for each reader.</summary>
    private sealed class Answer(Func<Action<GeneratedChunk>, CancellationToken, GeneratedText> generate, CancellationToken cancellation)
        : IAsyncEnumerable<GeneratedChunk>
    {
        public IAsyncEnumerator<GeneratedChunk> GetAsyncEnumerator(CancellationToken cancellationToken = default)
        {
            CancellationTokenSource abandoned = new(); // has no timer, so there is nothing to dispose
            return new Reader(Pieces(generate, abandoned.Token, cancellation).GetAsyncEnumerator(cancellationToken), abandoned);
        }
    }

    /// <summary>Whom a generation waits for. One that is dropped without DisposeAsync (await foreach always calls it) would be waited for without end: the
    /// finalizer says that it has gone.</summary>
    private sealed class Reader(IAsyncEnumerator<GeneratedChunk> pieces, CancellationTokenSource abandoned) : IAsyncEnumerator<GeneratedChunk>
    {
        private Task<bool> _move = Task.FromResult(true);

        ~Reader() => _ = abandoned.CancelAsync(); // not on the finalizer's thread, where an error would end the process

        public GeneratedChunk Current => pieces.Current;

        public ValueTask<bool> MoveNextAsync()
        {
            _move = Move();
            return new ValueTask<bool>(_move);
        }

        /// <summary>Ends the generation, also where a piece is waited for: who has no patience for the first one disposes of the rest.</summary>
        public async ValueTask DisposeAsync()
        {
            await abandoned.CancelAsync().ConfigureAwait(false);
            await ((Task)_move).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await pieces.DisposeAsync().ConfigureAwait(false);
            GC.SuppressFinalize(this);
        }

        private async Task<bool> Move()
        {
            bool moved = await pieces.MoveNextAsync().ConfigureAwait(false);
            GC.KeepAlive(this); // who waits has not gone
            return moved;
        }
    }
}
