using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace MLNetLora.Bench;

/// <summary>A process of the sample service.</summary>
internal sealed class SoakService : IDisposable
{
    private static readonly TimeSpan s_longest = TimeSpan.FromMinutes(3);
    private readonly StreamWriter _log;

    private SoakService(Process process, StreamWriter log, string logPath) => (Process, _log, LogPath) = (process, log, logPath);

    /// <summary>The folder of the solution, which this program lies in.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>The sample, built in the same way as this program.</summary>
    public static string Sample => Path.Combine(
        Repository, "samples", "ScoringService", "bin", AppContext.BaseDirectory.Contains("Debug", StringComparison.Ordinal) ? "Debug" : "Release", "net10.0",
        "ScoringService.dll");

    /// <summary>The process.</summary>
    public Process Process { get; }

    /// <summary>What it says.</summary>
    public string LogPath { get; }

    /// <summary>A port that nobody has.</summary>
    public static int FreePort()
    {
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <summary>Starts one.</summary>
    /// <param name="assembly">ScoringService.dll.</param>
    /// <param name="address">Where it is to listen.</param>
    /// <param name="settings">Its configuration, with colons between the parts.</param>
    /// <param name="logPath">Where its output is appended.</param>
    public static SoakService Start(string assembly, Uri address, IEnumerable<(string Key, string Value)> settings, string logPath)
    {
        if (!File.Exists(assembly))
        {
            throw new FileNotFoundException($"{assembly} is not there; build samples/ScoringService, or say with --start where it is.");
        }

        ProcessStartInfo start = new(ChildProcess.Self[0].Contains("dotnet", StringComparison.Ordinal) ? ChildProcess.Self[0] : "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Path.GetDirectoryName(assembly),
        };
        start.ArgumentList.Add(assembly);
        start.ArgumentList.Add($"--urls={address}");
        foreach ((string key, string value) in settings)
        {
            start.ArgumentList.Add(string.Create(CultureInfo.InvariantCulture, $"--{key}={value}"));
        }

        StreamWriter log = new(logPath, append: true);
        Process process = Process.Start(start) ?? throw new InvalidOperationException($"{assembly} did not start.");
        DataReceivedEventHandler write = (_, line) =>
        {
            lock (log)
            {
                if (line.Data is not null && log.BaseStream is not null)
                {
                    log.WriteLine(line.Data);
                    log.Flush();
                }
            }
        };
        process.OutputDataReceived += write;
        process.ErrorDataReceived += write;
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        return new SoakService(process, log, logPath);
    }

    /// <summary>Waits until it is ready.</summary>
    public async Task ReadyAsync(SoakBalancer balancer, SoakReplica replica)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!await balancer.IsReadyAsync(replica))
        {
            if (Process.HasExited || watch.Elapsed > s_longest)
            {
                throw new InvalidOperationException($"The service is not ready; see {LogPath}.");
            }

            await Task.Delay(100);
        }
    }

    /// <summary>Prints which errors a log has, and how many: it should have none that an operator would have to look at.</summary>
    public static void PrintErrors(string logPath)
    {
        foreach (IGrouping<string, string> source in File.ReadLines(logPath)
            .Where(line => line.StartsWith("fail: ", StringComparison.Ordinal) || line.StartsWith("crit: ", StringComparison.Ordinal)
                || line.StartsWith("Unhandled", StringComparison.Ordinal))
            .GroupBy(line => line))
        {
            Console.WriteLine($"{source.Count(),10}  in {Path.GetFileName(logPath)}: {source.Key}");
        }
    }

    public void Dispose()
    {
        if (!Process.HasExited)
        {
            Process.Kill();
        }

        Process.WaitForExit();
        lock (_log)
        {
            _log.Dispose();
        }

        Process.Dispose();
    }

    private static string FindRepository()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "MLNetLora.sln")))
            {
                return folder.FullName;
            }
        }

        return Environment.CurrentDirectory;
    }
}
