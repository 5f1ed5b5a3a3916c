using System.Collections.Concurrent;
using System.Diagnostics;

namespace MLNetLora.Bench;

/// <summary>What a load test has counted, from many threads.</summary>
/// <param name="faultsPath">A file for all that was not as it must be, whole.</param>
internal sealed class SoakTally(string faultsPath)
{
    private const int MostShown = 40;
    private const int MostKept = 1000;
    private const int MostCharacters = 800;
    private readonly ConcurrentDictionary<string, long> _counts = new(StringComparer.Ordinal);
    private readonly Dictionary<string, List<double>> _seconds = new(StringComparer.Ordinal);
    private int _faults;

    /// <summary>Since the traffic began.</summary>
    public Stopwatch Watch { get; } = Stopwatch.StartNew();

    /// <summary>How much was not as it must be.</summary>
    public int Faults => _faults;

    /// <summary>A kind's count.</summary>
    public long this[string what] => _counts.GetValueOrDefault(what);

    /// <summary>Counts.</summary>
    public void Count(string what, long by = 1) => _counts.AddOrUpdate(what, by, (_, before) => before + by);

    /// <summary>Keeps a time.</summary>
    public void Took(string what, double seconds)
    {
        lock (_seconds)
        {
            if (!_seconds.TryGetValue(what, out List<double>? list))
            {
                _seconds[what] = list = [];
            }

            list.Add(seconds);
        }
    }

    /// <summary>Something is not as it must be; the first ones are printed.</summary>
    /// <param name="kind">What it is counted as.</param>
    /// <param name="what">All that is needed to find the cause.</param>
    public void Fault(string kind, string what)
    {
        Count("FAULT " + kind);
        int number = Interlocked.Increment(ref _faults);
        string line = $"FAULT {number} at {Watch.Elapsed.TotalSeconds:F1} s, {kind}\n";
        if (number <= MostShown)
        {
            Console.WriteLine($"{line}{(what.Length > MostCharacters ? $"{what[..MostCharacters]}... whole in {faultsPath}" : what)}\n");
        }

        if (number <= MostKept)
        {
            lock (_seconds)
            {
                File.AppendAllText(faultsPath, $"{line}{what}\n\n");
            }
        }
    }

    /// <summary>Prints counts and times.</summary>
    public void Print()
    {
        foreach ((string what, long count) in _counts.OrderBy(pair => pair.Key, StringComparer.Ordinal))
        {
            Console.WriteLine($"{count,10}  {what}");
        }

        Console.WriteLine("\n     count    p50 ms    p95 ms    max ms");
        lock (_seconds)
        {
            foreach ((string what, List<double> list) in _seconds.OrderBy(pair => pair.Key, StringComparer.Ordinal))
            {
                double[] sorted = [.. list.Order()];
                Console.WriteLine($"{sorted.Length,10} {1000 * ServingResult.At(sorted, 0.5),9:F0} {1000 * ServingResult.At(sorted, 0.95),9:F0} "
                    + $"{1000 * sorted[^1],9:F0}  {what}");
            }
        }
    }
}
