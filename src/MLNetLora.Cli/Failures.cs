using System.Net;
using MLNetLora.Cli.Output;
using MLNetLora.Training;

namespace MLNetLora.Cli;

/// <summary>Says in one paragraph what went wrong.</summary>
internal static class Failures
{
    /// <summary>Writes it, and gives the exit code.</summary>
    public static int Report(Exception error, Screen screen)
    {
        try
        {
            return Written(error, screen);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ObjectDisposedException)
        {
            return Code(error, screen); // there is nobody to tell
        }
    }

    /// <summary>What was given cannot be used, or the run failed: what has begun to train, to answer or to write was a run.</summary>
    private static int Code(Exception error, Screen screen) => !screen.HasBegun && IsOfWhatWasGiven(error) ? ExitCode.Usage : ExitCode.Failure;

    private static bool IsOfWhatWasGiven(Exception error) => error switch
    {
        NativeMemoryException or TrainingException => false,
        HubException hub => hub.StatusCode is HttpStatusCode.NotFound or HttpStatusCode.Unauthorized or HttpStatusCode.Forbidden,
        _ => error is MLNetLoraException or FileNotFoundException or DirectoryNotFoundException or UnauthorizedAccessException,
    };

    private static int Written(Exception error, Screen screen)
    {
        if (error is OperationCanceledException && screen.Interruption.Came)
        {
            return screen.Interruption.ExitCode;
        }

        if (error is IOException && error.InnerException is null && IsBrokenPipe(error))
        {
            return ExitCode.Success; // whoever read the output has enough of it, as head has
        }

        screen.WriteError(error switch
        {
            IOException when IsFullDisk(error) => $"{error.Message.TrimEnd('.')}. Make room, or write elsewhere; what stands under its name is whole.",
            MLNetLoraException or IOException or UnauthorizedAccessException or OperationCanceledException => error.Message,
            ArgumentException => error.Message,
            OutOfMemoryException => "The memory of the process ran out. Take a smaller --batch-size, --activation-checkpointing or --precision nf4.",
            _ => $"{error.Message} ({error.GetType().Name})",
        });
        if (screen.IsVerbose)
        {
            screen.Error.WriteLine(error);
        }
        else if (error is not (MLNetLoraException or IOException or UnauthorizedAccessException))
        {
            screen.Error.WriteLine("--verbose shows where it comes from.");
        }

        return Code(error, screen);
    }

    // ENOSPC; ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL.
    private static bool IsFullDisk(Exception error) => (error.HResult & 0xFFFF) is var code
        && (OperatingSystem.IsWindows() ? code is 39 or 112 : code == 28);

    // EPIPE.
    private static bool IsBrokenPipe(Exception error) => !OperatingSystem.IsWindows() && (error.HResult & 0xFFFF) == 32;
}
