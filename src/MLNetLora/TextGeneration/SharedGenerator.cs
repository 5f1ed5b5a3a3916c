using System.Runtime.ExceptionServices;
using MLNetLora.Inference;

namespace MLNetLora.TextGeneration;

/// <summary>
/// One generator for several owners: opened when it is first asked, closed when its last owner lets go. Begins with one owner. What happens to a call that is
/// under way then is the generator's affair.
/// </summary>
/// <param name="open">Opens it, until its token says otherwise; a failure is not remembered, the next call tries again.</param>
internal sealed class SharedGenerator(Func<CancellationToken, TextGenerator> open)
{
    private readonly Lock _lock = new();
    private Opening? _opening;
    private int _owners = 1;

    /// <summary>Whether it was opened and not closed yet.</summary>
    public bool IsOpen
    {
        get
        {
            lock (_lock)
            {
                return _opening is { Task.IsCompletedSuccessfully: true };
            }
        }
    }

    /// <summary>One owner more.</summary>
    /// <exception cref="ObjectDisposedException">The last one has let go.</exception>
    public SharedGenerator Share()
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_owners == 0, typeof(QwenLoraTransformer));
            _owners++;
            return this;
        }
    }

    /// <summary>The generator.</summary>
    /// <param name="cancellation">Ends the waiting, and the opening, too, where nobody else waits for it.</param>
    /// <exception cref="ObjectDisposedException">The last owner has let go.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public TextGenerator Open(CancellationToken cancellation)
    {
        Opening opening = Wait(cancellation);
        try
        {
            opening.Task.Wait(cancellation);
            return opening.Task.Result;
        }
        catch (AggregateException failure)
        {
            Forget(opening);
            ExceptionDispatchInfo.Throw(failure.InnerException!);
            throw;
        }
        finally
        {
            WaitNoMore(opening);
        }
    }

    /// <summary>The generator, for who waits without a thread; see <see cref="Open"/>.</summary>
    public async Task<TextGenerator> OpenAsync(CancellationToken cancellation)
    {
        Opening opening = Wait(cancellation);
        try
        {
            return await opening.Task.WaitAsync(cancellation).ConfigureAwait(false);
        }
        catch when (opening.Task.IsFaulted || opening.Task.IsCanceled)
        {
            Forget(opening);
            throw;
        }
        finally
        {
            WaitNoMore(opening);
        }
    }

    /// <summary>Closes it, whoever owns it; the next call opens it again.</summary>
    public void Close()
    {
        Opening? closing;
        lock (_lock)
        {
            (closing, _opening) = (_opening, null);
        }

        closing?.Close();
    }

    /// <summary>One owner less; each calls this once.</summary>
    public void Release()
    {
        Opening? closing = null;
        lock (_lock)
        {
            _owners--;
            if (_owners == 0)
            {
                (closing, _opening) = (_opening, null);
            }
        }

        closing?.Close();
    }

    /// <summary>The opening that is under way, or through, with one more who waits.</summary>
    private Opening Wait(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_owners == 0, typeof(QwenLoraTransformer));
            _opening ??= Opening.Start(open);
            _opening.Waiting++;
            return _opening;
        }
    }

    /// <summary>Ends an opening for which nobody waits any more.</summary>
    private void WaitNoMore(Opening opening)
    {
        bool isAbandoned;
        lock (_lock)
        {
            opening.Waiting--;
            isAbandoned = opening.Waiting == 0 && !opening.Task.IsCompleted;
            _opening = isAbandoned && _opening == opening ? null : _opening;
        }

        if (isAbandoned)
        {
            opening.End();
            opening.Close();
        }
    }

    private void Forget(Opening opening)
    {
        lock (_lock)
        {
            _opening = _opening == opening ? null : _opening;
        }
    }

    /// <summary>An engine on its way, or there.</summary>
    /// <param name="Task">Gives it.</param>
    /// <param name="End">Ends the task: nobody wants it any more.</param>
    private sealed record Opening(Task<TextGenerator> Task, Action End)
    {
        /// <summary>How many calls wait for it; guarded by the owner's lock.</summary>
        public int Waiting { get; set; }

        public static Opening Start(Func<CancellationToken, TextGenerator> open)
        {
            CancellationTokenSource ending = new(); // has no timer, so there is nothing to dispose
            CancellationToken token = ending.Token;
            return new Opening(
                System.Threading.Tasks.Task.Factory.StartNew(
                    () => open(token), CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default),
                ending.Cancel);
        }

        /// <summary>Closes it, where it is not there yet as soon as it is.</summary>
        public void Close()
        {
            if (Task.IsCompleted)
            {
                Close(Task);
            }
            else
            {
                Task.ContinueWith(Close, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            }
        }

        private static void Close(Task<TextGenerator> opened)
        {
            // Looking at the exception of an opening that failed says that it was seen.
            if (opened.Exception is null && opened.IsCompletedSuccessfully)
            {
                opened.Result.Dispose();
            }
        }
    }
}
