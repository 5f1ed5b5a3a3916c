namespace MLNetLora.Bench;

/// <summary>The services that a load test starts, and how.</summary>
internal sealed class SoakServices(SoakSetting setting, SoakFolder folder) : IDisposable
{
    /// <summary>The base's name.</summary>
    public const string Base = "soak";

    /// <summary>An adapter of the options.</summary>
    public const string Fixed = "soak-fixed";

    /// <summary>Adapter of the options.</summary>
    public const string FixedWeights = "w1";

    /// <summary>The key of requests.</summary>
    public const string Key = "soak-key";

    /// <summary>The key that loads and unloads.</summary>
    public const string AdminKey = "soak-admin";

    /// <summary>Small, so that what is over it is sent fast.</summary>
    public const int MaximumRequestBytes = 64 << 10;

    /// <summary>That of a service that says nothing.</summary>
    public const int DefaultRequestBytes = 4 << 20;

    private readonly string _assembly = setting.Service ?? SoakService.Sample;

    /// <summary>Them.</summary>
    public IReadOnlyList<SoakReplica> Replicas { get; } =
        [.. Enumerable.Range(0, setting.Replicas).Select(_ => new SoakReplica(new Uri($"http://127.0.0.1:{SoakService.FreePort()}")))];

    /// <summary>Starts one, and waits until it is ready.</summary>
    public async Task StartAsync(int index, SoakBalancer balancer)
    {
        SoakReplica replica = Replicas[index];
        replica.Service?.Dispose();
        replica.Service = SoakService.Start(_assembly, replica.Address, Settings(), folder.Log(index));
        replica.Process = replica.Service.Process;
        await replica.Service.ReadyAsync(balancer, replica);
        replica.Started();
    }

    public void Dispose()
    {
        foreach (SoakReplica replica in Replicas)
        {
            replica.Service?.Dispose();
        }
    }

    private IEnumerable<(string, string)> Settings()
    {
        const string model = "MLNetLora:Models:" + Base + ":";
        return
        [
            (model + "ModelPath", folder.Model),
            (model + "Precision", setting.Precision.ToString()),
            (model + "Adapters:" + Fixed, Path.Combine(folder.Root, FixedWeights)),
            (model + "AdapterRoot", folder.Root),
            (model + "WatchFolder", folder.Watched),
            (model + "WatchPeriod", "00:00:00.500"),
            (model + "PrefixCacheBytes", (32 << 20).ToString(System.Globalization.CultureInfo.InvariantCulture)), // full soon, so that what is old has to go
            ("MLNetLora:ApiKeys:0", Key),
            ("MLNetLora:AdminKeys:0", AdminKey),
            ("MLNetLora:MaximumConcurrentRequests", "16"), // fewer than clients, so that some wait, and some find no place in a burst
            ("MLNetLora:MaximumQueuedRequests", "32"),
            ("MLNetLora:MaximumRequestBytes", MaximumRequestBytes.ToString(System.Globalization.CultureInfo.InvariantCulture)),
            ("MLNetLora:DrainDelay", setting.Rolling ? "00:00:02" : "00:00:00"),
        ];
    }
}
