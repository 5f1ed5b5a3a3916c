using Xunit.Abstractions;

namespace MLNetLora.Tests;

/// <summary>Says how much a test compared, on the console and in the test's own output.</summary>
internal static class Report
{
    /// <summary>Writes one line to both.</summary>
    public static void Line(ITestOutputHelper output, string line)
    {
        Console.WriteLine(line);
        output.WriteLine(line);
    }

    /// <summary>Says how many golden cases of a kind were compared, and fails where there are cases and none was.</summary>
    public static void Golden(ITestOutputHelper output, string kind, string what, int compared)
    {
        bool present = MLNetLora.Tests.Golden.Kind(kind) is not null;
        Line(output, present ? $"golden {kind}{what}: {compared} compared" : $"golden {kind}{what}: skipped, no such cases here");
        Assert.True(compared > 0 || !present, $"The golden folder {kind} is there, but nothing in it was compared.");
    }
}
