using System.Diagnostics;

namespace MLNetLora.Bench;

/// <summary>Mixed traffic for a while, every answer compared with the same request alone, memory watched, and an end under load.</summary>
internal static class SoakBench
{
    private static readonly TimeSpan s_progress = TimeSpan.FromSeconds(10);

    /// <summary>Runs it and prints what was seen.</summary>
    /// <returns>0 where all was as it must be, else 1.</returns>
    public static async Task<int> RunAsync(SoakSetting setting, CancellationToken cancellation)
    {
        if (setting.Rolling && (setting.Replicas < 2 || setting.Ours.Length > 0))
        {
            throw new ArgumentException("--rolling needs --replicas 2 or more, which are started here.");
        }

        Directory.CreateDirectory(setting.Folder);
        SoakFolder folder = new(setting.Folder);
        using SoakServices? services = setting.Ours.Length == 0 ? new SoakServices(setting, folder) : null;
        IReadOnlyList<SoakReplica> replicas = services?.Replicas ?? [.. setting.Ours.Select((address, i) => new SoakReplica(new Uri(address.Split('#')[0]))
        {
            Process = i < setting.Pids.Length ? Process.GetProcessById(setting.Pids[i]) : null,
        })];
        using SoakBalancer balancer = new(replicas);
        string? key = services is null ? setting.Key : SoakServices.Key;
        SoakTally tally = new(folder.Faults);
        using SoakClient client = new(balancer, key, tally);
        SoakJudge judge = new(tally);
        SoakAdapters? adapters = services is null ? null : new SoakAdapters(folder, client, balancer, tally, setting.Rolling);
        Console.WriteLine($"{replicas.Count} services, weights {setting.Precision}, {setting.AtOnce} clients, {setting.Minutes} minutes; files in {setting.Folder}");
        IReadOnlyList<SoakTarget> targets;
        if (services is not null)
        {
            folder.Write(setting.Model);
            await Task.WhenAll(Enumerable.Range(0, replicas.Count).Select(index => services.StartAsync(index, balancer)));
            await adapters!.LearnAsync(judge);
            await adapters.BeginAsync();
            targets = adapters.Targets;
            Console.WriteLine($"answers of the base and of each adapter differ in {SoakFolder.Adapters.Min(name => judge.Differ(SoakServices.Base, name))} or more of "
                + $"{judge.Requests.Count} requests, of two adapters in "
                + SoakFolder.Adapters.Zip(SoakFolder.Adapters.Skip(1)).Min(pair => judge.Differ(pair.First, pair.Second)));
        }
        else
        {
            targets = [new SoakTarget(setting.Ours[0].Split('#')[^1], [setting.Ours[0].Split('#')[^1]], false)];
            await judge.LearnAsync(client, targets[0].Name, targets[0].Name);
        }

        Console.WriteLine($"{judge.Known} answers alone in {tally.Watch.Elapsed.TotalSeconds:F0} s");
        tally.Watch.Restart();
        using SoakMemory memory = new(balancer, key, tally);
        await TrafficAsync(setting, services, new SoakTraffic(client, balancer, judge, targets, tally), adapters, client, balancer, memory, tally, cancellation);
        Console.WriteLine();
        tally.Print();
        memory.Print();
        Console.WriteLine($"\n{(tally.Faults == 0 ? "all as it must be" : $"{tally.Faults} FAULTS")}: {tally["answers"] + tally["at the end: answered"]} answers "
            + $"compared in {tally.Watch.Elapsed.TotalMinutes:F1} minutes");
        return tally.Faults == 0 ? 0 : 1;
    }

    private static async Task TrafficAsync(
        SoakSetting setting,
        SoakServices? services,
        SoakTraffic traffic,
        SoakAdapters? adapters,
        SoakClient client,
        SoakBalancer balancer,
        SoakMemory memory,
        SoakTally tally,
        CancellationToken cancellation)
    {
        using CancellationTokenSource time = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using CancellationTokenSource watching = new();
        time.CancelAfter(TimeSpan.FromMinutes(setting.Minutes));
        List<Task> watchers = [memory.RunAsync(watching.Token), ProgressAsync(memory, tally, watching.Token)];
        if (setting.Rolling)
        {
            watchers.Add(balancer.ProbeAsync(watching.Token));
        }

        List<Task> changes = [];
        if (adapters is not null)
        {
            changes.Add(adapters.RequestsAsync(setting.Seed, time.Token));
            changes.Add(adapters.FolderAsync(setting.Seed + 1, time.Token));
        }

        if (setting.Rolling)
        {
            changes.Add(new SoakRolling(services!, balancer, tally).RunAsync(time.Token));
        }

        using CancellationTokenSource ending = new(); // with --drain clients go on while the services end
        Task clients = Task.WhenAll(Enumerable.Range(0, setting.AtOnce).Select(i => traffic.RunAsync((setting.Seed * 1000) + i, setting.Drain ? ending.Token : time.Token)));
        await Task.WhenAny(Task.WhenAll([.. changes, Task.Delay(Timeout.Infinite, time.Token).ContinueWith(_ => { }, TaskScheduler.Default)]), clients);
        await Task.WhenAll(changes);
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
            await EmptyAsync(balancer, memory, tally);
            await watching.CancelAsync();
        }

        await Task.WhenAll(watchers);
    }

    /// <summary>Whether services know that nobody asks any more: what is left would be a place that is never given back.</summary>
    private static async Task EmptyAsync(SoakBalancer balancer, SoakMemory memory, SoakTally tally)
    {
        foreach (SoakReplica replica in balancer.Replicas)
        {
            double left = double.NaN;
            for (int i = 0; i < 50 && left is not 0; i++)
            {
                await Task.Delay(200);
                left = await memory.MetricAsync(replica, "mlnetlora_requests_running") + await memory.MetricAsync(replica, "mlnetlora_requests_waiting");
            }

            if (left is not 0)
            {
                tally.Fault("places not given back", $"{replica.Address} says that {left} requests are under way, and none is");
            }
        }
    }

    private static async Task ProgressAsync(SoakMemory memory, SoakTally tally, CancellationToken cancellation)
    {
        while (await SoakPause.ForAsync(s_progress, cancellation))
        {
            Console.WriteLine($"{tally.Watch.Elapsed.TotalSeconds,6:F0} s  {tally["answers"]} answers, {tally.Faults} faults, {tally["restarts"]} restarts; {memory.Last}");
        }
    }
}
