using System.Runtime.InteropServices;

namespace MLNetLora.Cli.Output;

/// <summary>Whether the process was started without one of its standard streams (<c>&lt;&amp;-</c>, <c>&gt;&amp;-</c>).</summary>
/// <remarks>
/// Its number is then given to the first file that the runtime opens for itself: reading from that would wait for ever, and writing to it fails, or reaches a
/// pipe of the runtime's own, which takes the bytes for signals. What a process inherits never has the mark that it is closed on exec, and what the runtime
/// opens has.
/// </remarks>
internal static class ClosedStream
{
    private const int GetDescriptorFlags = 1; // F_GETFD
    private const int CloseOnExec = 1; // FD_CLOEXEC

    /// <summary>Whether there is no standard input; on Windows such an input just ends.</summary>
    public static bool IsInput { get; } = Look(0);

    /// <summary>Whether there is no standard output; what would be written there is for nobody, as on Windows.</summary>
    public static bool IsOutput { get; } = Look(1);

    /// <summary>Whether there is no standard error.</summary>
    public static bool IsError { get; } = Look(2);

    private static bool Look(int descriptor)
    {
        if (OperatingSystem.IsWindows())
        {
            return false;
        }

        int flags = Flags(descriptor, GetDescriptorFlags);
        return flags < 0 || (flags & CloseOnExec) != 0;
    }

    [DllImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    private static extern int Flags(int descriptor, int command);
}
