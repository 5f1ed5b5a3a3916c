using System.Diagnostics;
using System.Globalization;

namespace MLNetLora.Bench;

/// <summary>What a service takes at a time.</summary>
/// <param name="Seconds">Since the traffic began.</param>
/// <param name="Replica">Which service.</param>
/// <param name="Resident">Megabytes of its resident set.</param>
/// <param name="Threads">Threads; NaN where it is unknown.</param>
/// <param name="Handles">Open files, sockets and the like; NaN where it is unknown.</param>
/// <param name="Managed">Megabytes that the garbage collector holds, from /metrics; NaN where it is unknown.</param>
internal readonly record struct SoakSample(double Seconds, int Replica, double Resident, double Threads, double Handles, double Managed);

/// <summary>Looks every few seconds at what services take.</summary>
internal sealed class SoakMemory(SoakBalancer balancer, string? key, SoakTally tally) : IDisposable
{
    private const double Megabyte = 1 << 20;
    private static readonly TimeSpan s_period = TimeSpan.FromSeconds(2);
    private readonly HttpClient _client = new() { Timeout = TimeSpan.FromSeconds(10) };
    private readonly List<SoakSample> _samples = [];

    /// <summary>The last sample of each service, in words.</summary>
    public string Last
    {
        get
        {
            lock (_samples)
            {
                return string.Join("; ", _samples.GroupBy(sample => sample.Replica).OrderBy(group => group.Key).Select(group => group.Last()).Select(sample =>
                    $"{sample.Resident:F0} MB ({sample.Managed:F0} managed), {sample.Threads:F0} threads, {sample.Handles:F0} handles"));
            }
        }
    }

    /// <summary>Looks until it is cancelled.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        do
        {
            foreach ((int index, SoakReplica replica) in balancer.Replicas.Index())
            {
                if (await LookAsync(index, replica) is { } sample)
                {
                    lock (_samples)
                    {
                        _samples.Add(sample);
                    }
                }
            }
        }
        while (await SoakPause.ForAsync(s_period, cancellation));
    }

    /// <summary>The sum of the values of a metric; NaN where there is none.</summary>
    public async Task<double> MetricAsync(SoakReplica replica, string prefix) => Sum(await MetricsAsync(replica), prefix);

    /// <summary>Prints each sixth of the time, and how fast it grew in the last five.</summary>
    public void Print()
    {
        lock (_samples)
        {
            foreach (IGrouping<int, SoakSample> replica in _samples.GroupBy(sample => sample.Replica).OrderBy(group => group.Key))
            {
                SoakSample[] all = [.. replica];
                double end = all[^1].Seconds + 1e-3;
                Console.WriteLine($"\nservice {replica.Key}: resident MB min, median, max | managed MB median | threads, handles min, median, max");
                foreach (IGrouping<int, SoakSample> sixth in all.GroupBy(sample => (int)(6 * sample.Seconds / end)).OrderBy(group => group.Key))
                {
                    Console.WriteLine($"{sixth.First().Seconds / 60,6:F1} min {Three(sixth.Select(sample => sample.Resident))} | "
                        + $"{Median(sixth.Select(sample => sample.Managed)),6:F0} | {Three(sixth.Select(sample => sample.Threads))}, "
                        + Three(sixth.Select(sample => sample.Handles)));
                }

                SoakSample[] later = [.. all.Where(sample => sample.Seconds > end / 6)];
                Console.WriteLine($"slope of the last five sixths, an hour: {Slope(later, sample => sample.Resident):F1} MB, managed "
                    + $"{Slope(later, sample => sample.Managed):F1} MB, {Slope(later, sample => sample.Threads):F1} threads, "
                    + $"{Slope(later, sample => sample.Handles):F1} handles");
            }
        }
    }

    public void Dispose() => _client.Dispose();

    private async Task<SoakSample?> LookAsync(int index, SoakReplica replica)
    {
        double resident = double.NaN;
        double threads = double.NaN;
        double handles = double.NaN;
        Process? process = replica.Process;
        try
        {
            if (process is not null)
            {
                process.Refresh();
                resident = process.WorkingSet64 / Megabyte;
                threads = process.Threads.Count;
                handles = process.HandleCount;
            }
        }
        catch (InvalidOperationException)
        {
            return null; // it has ended, and another is on its way
        }

        string[] metrics = await MetricsAsync(replica);
        double managed = Sum(metrics, "dotnet_gc_last_collection_memory_committed_size_bytes") / Megabyte;
        resident = process is null ? Sum(metrics, "dotnet_process_memory_working_set_bytes") / Megabyte : resident;
        return resident > 0 ? new SoakSample(tally.Watch.Elapsed.TotalSeconds, index, resident, threads, handles, managed) : null;
    }

    private async Task<string[]> MetricsAsync(SoakReplica replica)
    {
        try
        {
            using HttpRequestMessage request = new(HttpMethod.Get, new Uri(replica.Address, "/metrics"));
            request.Headers.TryAddWithoutValidation("Authorization", $"Bearer {key}");
            using HttpResponseMessage response = await _client.SendAsync(request);
            return (await response.Content.ReadAsStringAsync()).Split('\n');
        }
        catch (Exception error) when (error is HttpRequestException or OperationCanceledException or IOException)
        {
            return [];
        }
    }

    private static double Sum(string[] metrics, string prefix)
    {
        double[] values = [.. metrics.Where(line => line.StartsWith(prefix, StringComparison.Ordinal))
            .Select(line => line.Split(line.Contains('}', StringComparison.Ordinal) ? "} " : " ")[^1].Split(' ')[0])
            .Select(value => double.Parse(value, CultureInfo.InvariantCulture))];
        return values.Length == 0 ? double.NaN : values.Sum();
    }

    private static string Three(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return $"{sorted[0],6:F0} {Median(sorted),6:F0} {sorted[^1],6:F0}";
    }

    private static double Median(IEnumerable<double> values) => ServingResult.At([.. values.Order()], 0.5);

    /// <summary>Least squares.</summary>
    private static double Slope(SoakSample[] samples, Func<SoakSample, double> value)
    {
        samples = [.. samples.Where(sample => !double.IsNaN(value(sample)))];
        if (samples.Length < 2)
        {
            return double.NaN;
        }

        double middle = samples.Average(sample => sample.Seconds);
        return 3600 * samples.Sum(sample => (sample.Seconds - middle) * value(sample)) / samples.Sum(sample => Math.Pow(sample.Seconds - middle, 2));
    }
}
