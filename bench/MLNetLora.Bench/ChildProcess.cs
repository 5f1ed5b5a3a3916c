using System.Diagnostics;
using System.Text.Json;

namespace MLNetLora.Bench;

/// <summary>Runs commands, so that every figure has a process of its own: start and peak memory are then its own, too.</summary>
internal static class ChildProcess
{
    /// <summary>This program with other arguments.</summary>
    public static string[] Self { get; } = Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet"
        ? [Environment.ProcessPath!, typeof(ChildProcess).Assembly.Location]
        : [Environment.ProcessPath!];

    /// <summary>A command line in words; none for null.</summary>
    public static string[] Words(string? command) => command?.Split(' ', StringSplitOptions.RemoveEmptyEntries) ?? [];

    /// <summary>Runs a command and parses its last line that is a JSON object.</summary>
    /// <exception cref="InvalidOperationException">It failed, or printed none.</exception>
    public static JsonElement Json(string[] command, params string[] arguments)
    {
        ProcessStartInfo start = new(command[0], [.. command[1..], .. arguments]) { RedirectStandardOutput = true };
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{command[0]} did not start.");
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        string? line = output.Split('\n').LastOrDefault(text => text.StartsWith('{'));
        return process.ExitCode == 0 && line is not null
            ? JsonDocument.Parse(line).RootElement
            : throw new InvalidOperationException($"{string.Join(' ', [.. command, .. arguments])} ended with {process.ExitCode} and no figures:\n{output}");
    }
}
