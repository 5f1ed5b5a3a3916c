using System.Runtime.InteropServices;

namespace MLNetLora.Bench;

/// <summary>What .NET has no call for.</summary>
internal static partial class SoakNative
{
    private const int Sigterm = 15;

    /// <summary>Tells a process to end.</summary>
    public static void Terminate(int process) => Require(kill(process, Sigterm), $"Process {process} cannot be told to end");

    /// <summary>Puts one name in the place of another in one step, links themselves and not what they point to.</summary>
    public static void Rename(string from, string to) => Require(rename(from, to), $"{from} cannot be renamed to {to}");

    private static void Require(int result, string what)
    {
        if (result != 0)
        {
            throw new InvalidOperationException($"{what}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int process, int signal);

    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int rename(string from, string to);
}
