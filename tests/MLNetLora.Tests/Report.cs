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

    /// <summary>Says how many golden cases of a kind were compared, and fails where none was.</summary>
    public static void Golden(ITestOutputHelper output, string kind, string what, int compared)
    {
        Line(output, $"golden {kind}{what}: {compared} compared");
        Assert.True(compared > 0, $"golden {kind}{what}: nothing was compared with the reference cases in {MLNetLora.Tests.Golden.Kind(kind)}.");
    }
}
