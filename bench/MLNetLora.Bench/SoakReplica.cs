using System.Diagnostics;

namespace MLNetLora.Bench;

/// <summary>One of the services, as a balancer sees it.</summary>
/// <param name="address">Where it listens.</param>
internal sealed class SoakReplica(Uri address)
{
    private long _told;

    /// <summary>Where it listens.</summary>
    public Uri Address => address;

    /// <summary>Whether requests are sent to it.</summary>
    public bool IsReady { get; set; } = true;

    /// <summary>Its process; null where it is unknown.</summary>
    public Process? Process { get; set; }

    /// <summary>The service that was started here.</summary>
    public SoakService? Service { get; set; }

    /// <summary>It gets SIGTERM now: what is sent from here on may be refused in any way, what was sent before must be answered.</summary>
    public void Told() => Volatile.Write(ref _told, Stopwatch.GetTimestamp());

    /// <summary>It was started anew.</summary>
    public void Started() => Volatile.Write(ref _told, 0);

    /// <summary>Whether something that was sent at a time came after SIGTERM.</summary>
    public bool WasTold(long sent) => Volatile.Read(ref _told) is long told && told != 0 && sent >= told;
}

/// <summary>Hands out services in turn, as a balancer does; with readiness probes only those that are ready.</summary>
internal sealed class SoakBalancer(IReadOnlyList<SoakReplica> replicas) : IDisposable
{
    private static readonly TimeSpan s_period = TimeSpan.FromMilliseconds(250);
    private readonly HttpClient _probe = new() { Timeout = TimeSpan.FromSeconds(5) };
    private uint _turn;

    /// <summary>All of them.</summary>
    public IReadOnlyList<SoakReplica> Replicas => replicas;

    /// <summary>The next; one that is not ready where none is.</summary>
    public SoakReplica Next()
    {
        uint turn = Interlocked.Increment(ref _turn);
        for (int i = 0; i < replicas.Count; i++)
        {
            SoakReplica replica = replicas[(int)((turn + i) % replicas.Count)];
            if (replica.IsReady)
            {
                return replica;
            }
        }

        return replicas[(int)(turn % replicas.Count)];
    }

    /// <summary>Asks /health/ready, as Kubernetes does, until it is cancelled.</summary>
    public async Task ProbeAsync(CancellationToken cancellation)
    {
        do
        {
            foreach (SoakReplica replica in replicas)
            {
                replica.IsReady = await IsReadyAsync(replica);
            }
        }
        while (await SoakPause.ForAsync(s_period, cancellation));
    }

    /// <summary>Whether a service says that it is ready.</summary>
    public async Task<bool> IsReadyAsync(SoakReplica replica)
    {
        try
        {
            using HttpResponseMessage response = await _probe.GetAsync(new Uri(replica.Address, "/health/ready"));
            return response.IsSuccessStatusCode;
        }
        catch (Exception error) when (error is HttpRequestException or OperationCanceledException)
        {
            return false;
        }
    }

    public void Dispose() => _probe.Dispose();
}
