using System.Runtime.ExceptionServices;

namespace MLNetLora.Cli.Scoring;

/// <summary>
/// Does something with items on several threads at once and hands the results over in the items' order. Items are taken as threads become free, so that a long
/// one holds nobody up before the results that wait for it are too many.
/// </summary>
internal static class OrderedWork
{
    /// <summary>Does it.</summary>
    /// <param name="items">The items; read by one thread at a time.</param>
    /// <param name="threads">How many at once.</param>
    /// <param name="ahead">How many results may wait, or be under way, before the next item is taken.</param>
    /// <param name="work">What is done, on any of the threads; ends soon when its token says so.</param>
    /// <param name="take">Gets the results in order, one at a time.</param>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    /// <remarks>The first exception of items, work or take ends all and is thrown.</remarks>
    public static void Run<TItem, TResult>(
        IEnumerable<TItem> items, int threads, int ahead, Func<TItem, CancellationToken, TResult> work, Action<TResult> take, CancellationToken cancellation)
    {
        using CancellationTokenSource ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using IEnumerator<TItem> next = items.GetEnumerator();
        object gate = new();
        Dictionary<long, TResult> ready = [];
        (long begun, long handed) = (0, 0);
        bool hasEnded = false;
        ExceptionDispatchInfo? first = null;
        Thread[] pool = [.. Enumerable.Range(0, threads).Select(_ => new Thread(Work) { IsBackground = true })];
        foreach (Thread thread in pool)
        {
            thread.Start();
        }

        foreach (Thread thread in pool)
        {
            thread.Join();
        }

        cancellation.ThrowIfCancellationRequested();
        first?.Throw();

        void Work()
        {
            try
            {
                while (TryTake(out TItem item, out long place))
                {
                    Hand(place, work(item, ending.Token));
                }
            }
            catch (Exception error)
            {
                lock (gate)
                {
                    first ??= ExceptionDispatchInfo.Capture(error);
                    hasEnded = true;
                    Monitor.PulseAll(gate);
                }

                ending.Cancel();
            }
        }

        bool TryTake(out TItem item, out long place)
        {
            lock (gate)
            {
                while (!hasEnded && begun - handed >= ahead)
                {
                    Monitor.Wait(gate);
                }

                ending.Token.ThrowIfCancellationRequested();
                if (hasEnded || !next.MoveNext())
                {
                    hasEnded = true;
                    Monitor.PulseAll(gate);
                    (item, place) = (default!, 0);
                    return false;
                }

                (item, place) = (next.Current, begun++);
                return true;
            }
        }

        void Hand(long place, TResult result)
        {
            lock (gate)
            {
                ready.Add(place, result);
                while (ready.Remove(handed, out TResult? due))
                {
                    take(due);
                    handed++;
                }

                Monitor.PulseAll(gate);
            }
        }
    }
}
