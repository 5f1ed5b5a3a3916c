using System.Runtime.InteropServices;

namespace MLNetLora.Cli.Output;

/// <summary>Whether the process was started without a standard input (<c>&lt;&amp;-</c>).</summary>
/// <remarks>
/// Its number is then given to the first file that the runtime opens for itself: reading from that would wait for ever. What a process inherits never has the
/// mark that it is closed on exec, and what the runtime opens has.
/// </remarks>
internal static class ClosedInput
{
    private const int StandardInput = 0;
    private const int GetDescriptorFlags = 1; // F_GETFD
    private const int CloseOnExec = 1; // FD_CLOEXEC

    /// <summary>Whether there is none; on Windows such an input just ends.</summary>
    public static bool Is { get; } = !OperatingSystem.IsWindows() && Look();

    private static bool Look()
    {
        int flags = Flags(StandardInput, GetDescriptorFlags);
        return flags < 0 || (flags & CloseOnExec) != 0;
    }

    [DllImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.System32)]
    private static extern int Flags(int descriptor, int command);
}
