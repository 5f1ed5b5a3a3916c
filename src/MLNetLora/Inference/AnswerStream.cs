namespace MLNetLora.Inference;

/// <summary>Pieces of an answer for a reader that waits for them, whatever becomes of the reader.</summary>
internal static class AnswerStream
{
    /// <summary>An answer that is generated anew for each reader, when the first piece is asked for.</summary>
    /// <param name="pieces">
    /// Gives the pieces, the last of which holds the whole answer. Ends soon with an <see cref="OperationCanceledException"/> when its token says so, which it
    /// does before the enumerator is disposed, too; what the answer holds is free then.
    /// </param>
    /// <param name="cancellation">What ends the enumeration; exceptions of cancellations name the first of them that did.</param>
    public static IAsyncEnumerable<GeneratedChunk> Of(
        Func<CancellationToken, IAsyncEnumerable<GeneratedChunk>> pieces, params CancellationToken[] cancellation) => new Answer(pieces, cancellation);

    private sealed class Answer(Func<CancellationToken, IAsyncEnumerable<GeneratedChunk>> pieces, CancellationToken[] cancellation)
        : IAsyncEnumerable<GeneratedChunk>
    {
        public IAsyncEnumerator<GeneratedChunk> GetAsyncEnumerator(CancellationToken cancellationToken = default)
        {
            CancellationToken[] known = [.. cancellation, cancellationToken];
            CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(known);
            return new Reader(pieces(ending.Token).GetAsyncEnumerator(CancellationToken.None), ending, known);
        }
    }

    /// <summary>Whom an answer is generated for. For one that is dropped without DisposeAsync (await foreach always calls it) it would be generated to its end:
    /// the finalizer says that it has gone.</summary>
    private sealed class Reader(IAsyncEnumerator<GeneratedChunk> pieces, CancellationTokenSource ending, CancellationToken[] known)
        : IAsyncEnumerator<GeneratedChunk>
    {
        private readonly Lock _lock = new();
        private Task _move = Task.CompletedTask;
        private Task? _end;

        ~Reader() => _ = Task.Run(EndAsync); // not on the finalizer's thread, where an error would end the process

        public GeneratedChunk Current => pieces.Current;

        public ValueTask<bool> MoveNextAsync()
        {
            Task<bool> move = MoveAsync();
            _move = move;
            return new ValueTask<bool>(move);
        }

        /// <summary>Ends the generation, also where a piece is waited for: who has no patience for the first one disposes of the rest.</summary>
        public ValueTask DisposeAsync()
        {
            GC.SuppressFinalize(this);
            lock (_lock)
            {
                return new ValueTask(_end ??= EndAsync());
            }
        }

        private async Task<bool> MoveAsync()
        {
            try
            {
                return await pieces.MoveNextAsync().ConfigureAwait(false);
            }
            catch (OperationCanceledException e)
            {
                throw new OperationCanceledException(e.Message, e, Array.Find(known, token => token.IsCancellationRequested));
            }
            finally
            {
                GC.KeepAlive(this); // who waits has not gone
            }
        }

        private async Task EndAsync()
        {
            await ending.CancelAsync().ConfigureAwait(false);
            await _move.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing); // an enumerator that moves cannot be disposed
            await pieces.DisposeAsync().ConfigureAwait(false);
            ending.Dispose(); // else tokens that live long would know of it for as long
        }
    }
}
