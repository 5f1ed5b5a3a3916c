using System.Diagnostics;

namespace MLNetLora.Bench;

/// <summary>Mixed traffic for a while, every answer compared with the same request alone, memory watched, and an end under load.</summary>
internal static class SoakBench
{
    /// <summary>Runs it and prints what was seen.</summary>
    /// <returns>0 where all was as it must be, else 1.</returns>
    public static async Task<int> RunAsync(SoakSetting setting, CancellationToken cancellation)
    {
        Directory.CreateDirectory(setting.Folder);
        SoakFolder folder = new(setting.Folder);
        using SoakServices? services = setting.Ours.Length == 0 ? new SoakServices(setting, folder) : null;
        using SoakBalancer balancer = new(services?.Replicas ?? [.. setting.Ours.Select((address, i) => new SoakReplica(new Uri(address.Split('#')[0]))
        {
            Process = i < setting.Pids.Length ? Process.GetProcessById(setting.Pids[i]) : null,
        })]);
        SoakTally tally = new(folder.Faults);
        string? key = services is null ? setting.Key : SoakServices.Key;
        using SoakClient client = new(balancer, key, tally);
        SoakJudge judge = new(tally);
        SoakAdapters? adapters = services is null ? null : new SoakAdapters(folder, client, balancer, tally, setting.Rolling);
        Console.WriteLine($"{balancer.Replicas.Count} services, {setting.AtOnce} clients, {setting.Minutes} minutes; files in {setting.Folder}");
        IReadOnlyList<SoakTarget> targets = services is null
            ? await FoundAsync(setting.Ours[0], client, judge)
            : await StartedAsync(setting, services, folder, balancer, adapters!, judge);
        Console.WriteLine($"{judge.Known} answers alone in {tally.Watch.Elapsed.TotalSeconds:F0} s");
        tally.Watch.Restart();
        using SoakMemory memory = new(balancer, key, tally);
        int mostBytes = services is null ? SoakServices.DefaultRequestBytes : SoakServices.MaximumRequestBytes;
        SoakTraffic traffic = new(client, balancer, judge, targets, mostBytes, tally);
        await new SoakRun(setting, services, balancer, client, traffic, adapters, memory, tally).RunAsync(cancellation);
        Console.WriteLine();
        tally.Print();
        memory.Print();
        Console.WriteLine();
        for (int replica = 0; services is not null && replica < balancer.Replicas.Count; replica++)
        {
            SoakService.PrintErrors(folder.Log(replica));
        }

        string verdict = tally.Faults == 0 ? "all as it must be" : $"{tally.Faults} FAULTS, see {folder.Faults}";
        Console.WriteLine($"\n{tally["answers"] + tally["at the end: answered"]} answers compared in {tally.Watch.Elapsed.TotalMinutes:F1} minutes: {verdict}");
        return tally.Faults == 0 ? 0 : 1;
    }

    /// <summary>Names of a service that runs; nothing is known of its weights but what it answers.</summary>
    private static async Task<IReadOnlyList<SoakTarget>> FoundAsync(string address, SoakClient client, SoakJudge judge)
    {
        string[] names = address.Split('#')[^1].Split(',');
        await judge.LeaveOutRefusedAsync(client, names[0]);
        foreach (string name in names)
        {
            await judge.LearnAsync(client, name, name);
        }

        return [.. names.Select(name => new SoakTarget(name, [name], false))];
    }

    private static async Task<IReadOnlyList<SoakTarget>> StartedAsync(
        SoakSetting setting, SoakServices services, SoakFolder folder, SoakBalancer balancer, SoakAdapters adapters, SoakJudge judge)
    {
        folder.Write(setting.Model);
        await Task.WhenAll(Enumerable.Range(0, services.Replicas.Count).Select(index => services.StartAsync(index, balancer)));
        await adapters.LearnAsync(judge);
        await adapters.BeginAsync();
        int fromBase = SoakFolder.Adapters.Min(name => judge.Differ(SoakServices.Base, name));
        int fromOther = SoakFolder.Adapters.Zip(SoakFolder.Adapters.Skip(1)).Min(pair => judge.Differ(pair.First, pair.Second));
        Console.WriteLine($"of {judge.Requests.Count} requests the base and an adapter answer {fromBase} or more differently, two adapters {fromOther}");
        return adapters.Targets;
    }
}
