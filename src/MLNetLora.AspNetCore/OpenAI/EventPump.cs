namespace MLNetLora.AspNetCore.OpenAI;

/// <summary>Takes events as they come, and does something while none comes.</summary>
internal static class EventPump
{
    /// <summary>Takes all events.</summary>
    /// <param name="events">Makes the events; its token ends them where taking one has failed.</param>
    /// <param name="take">Takes one.</param>
    /// <param name="onIdle">Called each time when for an interval nothing was taken.</param>
    /// <param name="interval">How long that is, at least; at most twice as long.</param>
    /// <param name="time">The clock.</param>
    /// <param name="cancellation">Ends it.</param>
    public static async Task RunAsync<T>(
        Func<CancellationToken, IAsyncEnumerable<T>> events,
        Func<T, Task> take,
        Func<Task> onIdle,
        TimeSpan interval,
        TimeProvider time,
        CancellationToken cancellation)
    {
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using PeriodicTimer timer = new(interval, time);
        IAsyncEnumerator<T> enumerator = events(ending.Token).GetAsyncEnumerator(CancellationToken.None);
        Task<bool> next = Task.FromResult(false);
        Task<bool>? tick = null;
        bool isIdle = true;
        try
        {
            while (true)
            {
                next = enumerator.MoveNextAsync().AsTask();
                while (!next.IsCompleted)
                {
                    tick ??= timer.WaitForNextTickAsync(CancellationToken.None).AsTask();
                    if (await Task.WhenAny(next, tick).ConfigureAwait(false) == tick)
                    {
                        tick = null;
                        if (isIdle)
                        {
                            await onIdle().ConfigureAwait(false);
                        }

                        isIdle = true;
                    }
                }

                if (!await next.ConfigureAwait(false))
                {
                    return;
                }

                isIdle = false;
                await take(enumerator.Current).ConfigureAwait(false);
            }
        }
        finally
        {
            await ending.CancelAsync().ConfigureAwait(false);
            await ((Task)next).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing); // an enumerator that moves cannot be disposed
            await enumerator.DisposeAsync().ConfigureAwait(false);
        }
    }
}
