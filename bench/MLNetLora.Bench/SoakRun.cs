namespace MLNetLora.Bench;

/// <summary>The time of traffic.</summary>
internal sealed class SoakRun(
    SoakSetting setting,
    SoakServices? services,
    SoakBalancer balancer,
    SoakClient client,
    SoakTraffic traffic,
    SoakAdapters? adapters,
    SoakMemory memory,
    SoakTally tally)
{
    private static readonly TimeSpan s_progress = TimeSpan.FromSeconds(10);

    private static readonly string[] s_underWay = [
        "mlnetlora_requests_receiving", "mlnetlora_requests_running", "mlnetlora_requests_waiting", "mlnetlora_engine_running", "mlnetlora_engine_waiting",
    ];

    /// <summary>Runs clients, changes of adapters, restarts and watchers, and ends them in order.</summary>
    /// <param name="cancellation">Ends the time early.</param>
    public async Task RunAsync(CancellationToken cancellation)
    {
        using CancellationTokenSource time = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using CancellationTokenSource ending = new(); // with --drain clients go on while the services end
        using CancellationTokenSource watching = new();
        time.CancelAfter(TimeSpan.FromMinutes(setting.Minutes));
        List<Task> watchers = [memory.RunAsync(watching.Token), ProgressAsync(watching.Token)];
        if (setting.Rolling)
        {
            watchers.Add(balancer.ProbeAsync(watching.Token));
        }

        CancellationToken clientsEnd = setting.Drain ? ending.Token : time.Token;
        Task clients = Task.WhenAll(Enumerable.Range(0, setting.AtOnce).Select(i => traffic.RunAsync((setting.Seed * 1000) + i, clientsEnd)));
        Task changes = Task.WhenAll(Changes(time.Token));
        await Task.WhenAny(changes, clients); // what throws in either ends the run
        await changes;
        if (setting.Drain)
        {
            tally.Count("at the end: under way at SIGTERM", traffic.UnderWay);
            await watching.CancelAsync();
            client.IsEnding = true;
            await Task.WhenAll(balancer.Replicas.Select(replica => SoakEnd.StopAsync(replica, tally)));
            await ending.CancelAsync();
            await clients;
        }
        else
        {
            await clients;
            await (services is null ? Task.CompletedTask : EmptyAsync()); // who runs already may be asked by others, too
            await watching.CancelAsync();
        }

        await Task.WhenAll(watchers);
    }

    private IEnumerable<Task> Changes(CancellationToken cancellation)
    {
        yield return SoakPause.ForAsync(Timeout.InfiniteTimeSpan, cancellation);
        if (adapters is not null)
        {
            yield return adapters.RequestsAsync(setting.Seed, cancellation);
            yield return adapters.FolderAsync(setting.Seed + 1, cancellation);
        }

        if (setting.Rolling)
        {
            yield return new SoakRolling(services!, balancer, tally).RunAsync(cancellation);
        }
    }

    /// <summary>Whether services know that nobody asks any more: what is left would be a place that is never given back.</summary>
    private async Task EmptyAsync()
    {
        foreach (SoakReplica replica in balancer.Replicas)
        {
            double left = double.NaN;
            for (int i = 0; i < 50 && left is not 0; i++)
            {
                await Task.Delay(200);
                left = 0;
                foreach (string metric in s_underWay)
                {
                    left += await memory.MetricAsync(replica, metric);
                }
            }

            if (left is not 0)
            {
                tally.Fault("places not given back", $"{replica.Address} says that {left} requests are under way, and none is");
            }
        }
    }

    private async Task ProgressAsync(CancellationToken cancellation)
    {
        while (await SoakPause.ForAsync(s_progress, cancellation))
        {
            Console.WriteLine($"{tally.Watch.Elapsed.TotalSeconds,6:F0} s  {tally["answers"]} answers, {tally.Faults} faults"
                + $"{(setting.Rolling ? $", {tally["restarts"]} restarts" : "")}; {memory.Last}");
        }
    }
}
