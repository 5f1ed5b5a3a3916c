using System.Globalization;

namespace MLNetLora.Bench;

/// <summary>Private memory of this process, sampled every few milliseconds: anonymous pages on Linux (mapped checkpoint files are not in it), the private set elsewhere.</summary>
internal sealed class PeakMemory : IDisposable
{
    private readonly Timer _timer;

    public PeakMemory() => _timer = new Timer(_ => Peak = Math.Max(Peak, Now()), null, 0, 5);

    /// <summary>Highest sample so far, in bytes.</summary>
    public long Peak { get; private set; }

    public void Dispose() => _timer.Dispose();

    /// <summary>Private memory at this moment, in bytes.</summary>
    public static long Now()
    {
        if (!OperatingSystem.IsLinux())
        {
            using System.Diagnostics.Process process = System.Diagnostics.Process.GetCurrentProcess();
            return process.PrivateMemorySize64;
        }

        string line = File.ReadLines("/proc/self/status").First(text => text.StartsWith("RssAnon:", StringComparison.Ordinal));
        return long.Parse(line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
    }
}
