using System.Runtime.ExceptionServices;
using MLNetLora.Inference;

namespace MLNetLora.TextGeneration;

/// <summary>
/// One generator for several owners: opened when it is first asked, closed when its last owner lets go. Begins with one owner. What happens to a call that is under way then is the
/// generator's affair.
/// </summary>
/// <param name="open">Opens it; a failure is not remembered, the next call tries again.</param>
internal sealed class SharedGenerator(Func<TextGenerator> open)
{
    private readonly Lock _lock = new();
    private Task<TextGenerator>? _generator;
    private int _owners = 1;

    /// <summary>Whether it was opened and not closed yet.</summary>
    public bool IsOpen
    {
        get
        {
            lock (_lock)
            {
                return _generator is { IsCompletedSuccessfully: true };
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
    /// <param name="cancellation">
    /// Ends the waiting. Opening takes minutes where weights are quantized and cannot be ended itself: it goes on, and whoever asks next finds it done.
    /// </param>
    /// <exception cref="ObjectDisposedException">The last owner has let go.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public TextGenerator Open(CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        Task<TextGenerator> opening;
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_owners == 0, typeof(QwenLoraTransformer));
            opening = _generator ??= Task.Factory.StartNew(open, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
        }

        try
        {
            opening.Wait(cancellation);
            return opening.Result;
        }
        catch (AggregateException failure)
        {
            lock (_lock)
            {
                _generator = _generator == opening ? null : _generator;
            }

            ExceptionDispatchInfo.Throw(failure.InnerException!);
            throw;
        }
    }

    /// <summary>One owner less; each calls this once.</summary>
    public void Release()
    {
        Task<TextGenerator>? closing = null;
        lock (_lock)
        {
            _owners--;
            if (_owners == 0)
            {
                (closing, _generator) = (_generator, null);
            }
        }

        if (closing is { IsCompleted: true })
        {
            Close(closing);
        }
        else
        {
            // Opened by a call that was cancelled, or that is waiting on another thread.
            closing?.ContinueWith(Close, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
        }
    }

    private static void Close(Task<TextGenerator> opened)
    {
        if (opened.IsCompletedSuccessfully)
        {
            opened.Result.Dispose();
        }
    }
}
