using System.Diagnostics;
using System.Globalization;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.Training.Planning;

/// <summary>A probe that has failed.</summary>
/// <param name="message">Of what.</param>
internal sealed class ProbeException(string message) : MLNetLoraException(message);

/// <summary>Runs probes, each in a process of its own: a program that reads a <see cref="ProbeRequest"/> from its input, and writes <see cref="ProbeFigures"/>
/// as the last line of its output.</summary>
/// <param name="command">The program and its arguments.</param>
internal sealed class ProbeProcess(params IReadOnlyList<string> command)
{
    private const int Killed = 128 + 9;
    private const string Quantized = "plan-"; // and a GUID

    /// <summary>Measures.</summary>
    /// <param name="request">What.</param>
    /// <param name="cancellation">Ends the process.</param>
    /// <exception cref="ProbeException">It failed; the message is the last that it wrote.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public ProbeFigures Measure(ProbeRequest request, CancellationToken cancellation = default)
    {
        // What a probe quantizes is a part of the weights that nobody else asks for.
        bool quantizes = request.Lora is not null && FourBitCache.Find(Checkpoint.Open(request.Model), request.Training.Precision) is null;
        if (quantizes)
        {
            RemoveOld(FourBitCache.Folder);
        }

        string? cache = quantizes ? Path.Combine(FourBitCache.Folder, $"{Quantized}{Guid.NewGuid():N}") : null;
        try
        {
            return Run(request, cache, cancellation);
        }
        finally
        {
            if (cache is not null && Directory.Exists(cache))
            {
                Directory.Delete(cache, recursive: true);
            }
        }
    }

    /// <summary>Removes what plans that were killed have left: a day old, since one that is being made is not.</summary>
    /// <param name="cache">The folder in which they are.</param>
    internal static void RemoveOld(string cache)
    {
        DirectoryInfo folder = new(cache);
        foreach (DirectoryInfo old in folder.Exists ? folder.GetDirectories(Quantized + "*", new EnumerationOptions()) : [])
        {
            bool isOurs = Guid.TryParseExact(old.Name.AsSpan(Quantized.Length), "N", out _);
            if (isOurs && old.LastWriteTimeUtc < DateTime.UtcNow - TimeSpan.FromDays(1))
            {
                try
                {
                    old.Delete(recursive: true);
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    // Somebody else's; it stays.
                }
            }
        }
    }

    private ProbeFigures Run(ProbeRequest request, string? cache, CancellationToken cancellation)
    {
        ProcessStartInfo start = new(command[0], command.Skip(1))
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        if (cache is not null)
        {
            Directory.CreateDirectory(cache);
            start.Environment[FourBitCache.Variable] = cache;
        }

        // A probe is killed where the plan is: the runtime would leave its sockets for debuggers in the folder for temporary files.
        _ = start.Environment.TryAdd("DOTNET_EnableDiagnostics", "0");
        using Process process = Process.Start(start) ?? throw new ProbeException($"{command[0]} did not start.");
        using CancellationTokenRegistration ended = cancellation.UnsafeRegister(static process => ((Process)process!).Kill(entireProcessTree: true), process);
        Task<string> output = process.StandardOutput.ReadToEndAsync(CancellationToken.None);
        Task<string> errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        try
        {
            process.StandardInput.WriteLine(request.ToJson());
            process.StandardInput.Close();
        }
        catch (IOException)
        {
            // It ended before it had read all: what it died of is in its code and its last line.
        }

        process.WaitForExit();
        cancellation.ThrowIfCancellationRequested();
        string? figures = output.Result.Split('\n').LastOrDefault(line => line.StartsWith('{'));
        return process.ExitCode == 0 && figures is not null ? ProbeFigures.Parse(figures)
            : throw new ProbeException(process.ExitCode == Killed
                ? $"The system ended a probe with {request.Layers} layers, most likely since memory ran out."
                : errors.Result.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).LastOrDefault()
                    ?? string.Create(CultureInfo.InvariantCulture, $"A probe with {request.Layers} layers ended with {process.ExitCode}."));
    }
}
