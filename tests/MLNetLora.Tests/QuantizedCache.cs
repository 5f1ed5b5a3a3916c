using System.Runtime.CompilerServices;
using MLNetLora.Quantization;

namespace MLNetLora.Tests;

/// <summary>Keeps what tests quantize out of the user's cache.</summary>
internal static class QuantizedCache
{
    [ModuleInitializer]
    internal static void Redirect()
    {
        string folder = Directory.CreateTempSubdirectory("mlnetlora-cache-").FullName;
        Environment.SetEnvironmentVariable(FourBitCache.Variable, folder);
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
    }
}
