namespace MLNetLora.Cli;

/// <summary>How the command ends.</summary>
internal static class ExitCode
{
    /// <summary>All is well.</summary>
    public const int Success = 0;

    /// <summary>The run failed: a file, a checkpoint, the data, the device, memory.</summary>
    public const int Failure = 1;

    /// <summary>The command line or the configuration cannot be used; nothing was done.</summary>
    public const int Usage = 2;

    /// <summary>Interrupted by Ctrl-C (SIGINT).</summary>
    public const int Interrupted = 130;

    /// <summary>Ended by SIGTERM.</summary>
    public const int Terminated = 143;
}
