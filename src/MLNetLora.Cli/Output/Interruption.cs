using System.Runtime.InteropServices;

namespace MLNetLora.Cli.Output;

/// <summary>
/// Ctrl-C and SIGTERM. The first one cancels, so that what was learned is saved; with the second the system ends the process at once.
/// </summary>
internal sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource _source = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private int _exitCode;

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => _source.Token;

    /// <summary>Whether one came.</summary>
    public bool Came => _exitCode != 0;

    /// <summary>The exit code that it asks for: <see cref="Cli.ExitCode.Interrupted"/> or <see cref="Cli.ExitCode.Terminated"/>.</summary>
    public int ExitCode => _exitCode == 0 ? Cli.ExitCode.Interrupted : _exitCode;

    /// <summary>Called on the first signal, before the cancellation; says something at once, since a step may take a while.</summary>
    public Action? Noticed { get; set; }

    /// <summary>What a Ctrl-C ends alone, such as one answer of a chat; null where it ends everything.</summary>
    public CancellationTokenSource? Part { get; set; }

    /// <summary>Listens to the system's signals.</summary>
    public void Listen()
    {
        _registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGINT, context => On(context, Cli.ExitCode.Interrupted)));
        _registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => On(context, Cli.ExitCode.Terminated)));
    }

    /// <summary>Does what a signal does.</summary>
    /// <returns>Whether it was the first.</returns>
    public bool Interrupt(int exitCode)
    {
        if (exitCode == Cli.ExitCode.Interrupted && Part is { IsCancellationRequested: false } part)
        {
            part.Cancel();
            return true;
        }

        if (Interlocked.CompareExchange(ref _exitCode, exitCode, 0) != 0)
        {
            return false;
        }

        Noticed?.Invoke();
        _source.Cancel();
        return true;
    }

    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
        {
            registration.Dispose();
        }

        _source.Dispose();
    }

    private void On(PosixSignalContext context, int exitCode) => context.Cancel = Interrupt(exitCode);
}
