using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;

namespace MLNetLora.Runtime;

/// <summary>
/// ONNX Runtime's own builds report to Microsoft what they run, hashes and names of models among it, and since 1.29 on Linux and macOS, too. Who brings private
/// data here has not asked for that: it is off, unless the environment variable ORT_DISABLE_TELEMETRY is 0.
/// </summary>
internal static partial class Telemetry
{
    private const string Variable = "ORT_DISABLE_TELEMETRY";

    /// <summary>Turns it off where the runtime has not begun: it looks at the variable once, before anything is written or sent.</summary>
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "Any later may be too late, and nothing else of this library is touched.")]
    internal static void TurnOffBefore()
    {
        if (!OperatingSystem.IsWindows())
        {
            try
            {
                // .NET's own variables do not reach native code.
                _ = SetVariable(Variable, "1", overwrite: 0);
            }
            catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
            {
            }
        }
    }

    /// <summary>Turns it off on Windows, where the runtime does not look at the variable and the system collects the events.</summary>
    internal static void TurnOffAfter()
    {
        if (OperatingSystem.IsWindows() && Environment.GetEnvironmentVariable(Variable) != "0")
        {
            OrtEnv.Instance().DisableTelemetryEvents();
        }
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetVariable(string name, string value, int overwrite);
}
