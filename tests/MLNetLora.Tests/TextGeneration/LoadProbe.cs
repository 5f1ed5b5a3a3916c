using System.Diagnostics;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>Runs tests/MLNetLora.LoadProbe, which is copied beside the tests, in a process of its own.</summary>
internal static class LoadProbe
{
    /// <summary>The line that the probe writes of an answer.</summary>
    public static string Line(string answer) => $"answer: {answer.ReplaceLineEndings(" ")}".Trim();

    public static string[] Run(string zip, string instruction, string? baseModelVariable = null) => Run([zip, instruction], baseModelVariable);

    /// <summary>Saves the model of a zip where no file may grow beyond a limit.</summary>
    public static string[] FullDisk(string zip, string what, string target, long limit) => Run(["full-disk", zip, what, target, $"{limit}"], null);

    /// <summary>Starts it.</summary>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="baseModelVariable">MLNETLORA_BASE_MODEL.</param>
    /// <param name="variables">Other variables; null takes one away.</param>
    public static Process Start(string[] arguments, string? baseModelVariable = null, IReadOnlyDictionary<string, string?>? variables = null)
    {
        string host = Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet";
        ProcessStartInfo start = new(host, ["exec", Path.Combine(AppContext.BaseDirectory, "MLNetLora.LoadProbe.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["MLNETLORA_BASE_MODEL"] = baseModelVariable ?? "";
        foreach ((string name, string? value) in variables ?? new Dictionary<string, string?>())
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    private static string[] Run(string[] arguments, string? baseModelVariable)
    {
        using Process process = Start(arguments, baseModelVariable);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        if (!process.WaitForExit(TimeSpan.FromMinutes(2)))
        {
            process.Kill();
        }

        return (output + errors.Result).Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
    }
}
