using System.Globalization;
using System.Runtime.InteropServices;

namespace MLNetLora.Bench;

/// <summary>Private memory of this process, sampled every few milliseconds: anonymous pages on Linux (mapped checkpoint files are not in it), the
/// private set elsewhere.</summary>
internal sealed partial class PeakMemory : IDisposable
{
    private readonly Timer _timer;

    public PeakMemory() => _timer = new Timer(_ => Peak = Math.Max(Peak, Now()), null, 0, 5);

    /// <summary>Highest sample so far, in bytes.</summary>
    public long Peak { get; private set; }

    public void Dispose() => _timer.Dispose();

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

    [LibraryImport("libc", EntryPoint = "malloc_trim")]
    private static partial int MallocTrim(nuint pad);
}
