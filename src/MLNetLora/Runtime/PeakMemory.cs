using System.Globalization;
using System.Runtime.InteropServices;

namespace MLNetLora.Runtime;

/// <summary>Private memory of this process, sampled every few milliseconds: anonymous pages on Linux (mapped checkpoint files are not in it), the
/// private set elsewhere.</summary>
internal sealed partial class PeakMemory : IDisposable
{
    private readonly Lock _lock = new();
    private readonly Timer _timer;

    public PeakMemory() => _timer = new Timer(_ => Sample(), null, 0, 5);

    /// <summary>Highest sample so far, in bytes; since <see cref="Take"/>, where that was called.</summary>
    public long Peak { get; private set; }

    /// <summary>The highest sample so far, after which samples count anew: what the parts of a run take one after another.</summary>
    public long Take()
    {
        Sample();
        lock (_lock)
        {
            long peak = Peak;
            Peak = 0;
            return peak;
        }
    }

    /// <summary>Highest sum of private memory so far and of the pages of files that are in memory and mapped, each counted once however often it is (Linux;
    /// elsewhere without them), in bytes; 0 before the first <see cref="SampleMapped"/>.</summary>
    public long PeakWithMapped { get; private set; }

    /// <summary>Looks at the mapped pages, which stay until the system needs them: once after each piece of work is enough. Never while something is timed:
    /// the system walks through every page.</summary>
    public void SampleMapped() => PeakWithMapped = Math.Max(PeakWithMapped, Math.Max(Peak, Now()) + Mapped());

    public void Dispose() => _timer.Dispose();

    private void Sample()
    {
        long now = Now();
        lock (_lock)
        {
            Peak = Math.Max(Peak, now);
        }
    }

    /// <summary>Gives freed memory back to the system, so that what comes next is measured alone.</summary>
    public static void Trim()
    {
        GC.Collect();
        if (OperatingSystem.IsLinux())
        {
            try
            {
                _ = MallocTrim(0);
            }
            catch (EntryPointNotFoundException)
            {
                // Not every C library has it.
            }
        }
    }

    /// <summary>Private memory once the garbage collector has given back what it can, in bytes.</summary>
    public static long Settle()
    {
        GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        return Now();
    }

    /// <summary>Private memory at this moment, in bytes.</summary>
    public static long Now()
    {
        if (!OperatingSystem.IsLinux())
        {
            using System.Diagnostics.Process process = System.Diagnostics.Process.GetCurrentProcess();
            return process.PrivateMemorySize64;
        }

        return Bytes("/proc/self/status", "RssAnon:");
    }

    private static long Mapped() => OperatingSystem.IsLinux() ? Bytes("/proc/self/smaps_rollup", "Pss_File:") : 0;

    private static long Bytes(string file, string field)
    {
        string line = File.ReadLines(file).First(text => text.StartsWith(field, StringComparison.Ordinal));
        return long.Parse(line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024;
    }

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int MallocTrim(nuint pad);
}
