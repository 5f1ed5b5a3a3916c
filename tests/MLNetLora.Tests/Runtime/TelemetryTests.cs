using System.Diagnostics;
using MLNetLora.Tests.TextGeneration;

namespace MLNetLora.Tests.Runtime;

public sealed class TelemetryTests
{
    [Fact]
    public void The_runtime_writes_down_nothing_to_report()
    {
        if (OperatingSystem.IsWindows())
        {
            return; // the system collects events there, in no file
        }

        using TemporaryFolder home = new();
        Dictionary<string, string?> variables = new()
        {
            ["HOME"] = home.Path,
            ["XDG_CACHE_HOME"] = null,

            // With any of these it reports nothing anyway.
            ["ORT_DISABLE_TELEMETRY"] = null,
            ["ORT_RUNNING_UNIT_TESTS"] = null,
            ["CI"] = null,
            ["TF_BUILD"] = null,
            ["GITHUB_ACTIONS"] = null,
        };
        using Process process = LoadProbe.Start(["device", "cuda"], variables: variables); // asks the runtime for its providers
        string output = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.Contains("CUDA", output);
        Assert.DoesNotContain(Directory.EnumerateFiles(home.Path, "*", SearchOption.AllDirectories), file => file.Contains("onnxruntime"));
    }
}
