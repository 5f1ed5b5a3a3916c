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
}
