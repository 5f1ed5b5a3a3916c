namespace MLNetLora.Cli;

/// <summary>How the command ends.</summary>
internal static class ExitCode
{
    /// <summary>All is well.</summary>
    public const int Success = 0;

    /// <summary>The run failed: memory, a disk, the network, numbers that diverge; or some of it could not be done.</summary>
    public const int Failure = 1;

    /// <summary>What was given cannot be used: the command line, a configuration, a model, data, a device; nothing was trained, answered or written.</summary>
    public const int Usage = 2;

    /// <summary>Interrupted by Ctrl-C (SIGINT).</summary>
    public const int Interrupted = 130;

    /// <summary>Ended by SIGTERM.</summary>
    public const int Terminated = 143;
}
