using System.Globalization;

namespace MLNetLora.AspNetCore;

/// <summary>Says in the log what is being loaded: which of how many, and, where it takes longer than two seconds, how far it is.</summary>
/// <param name="services">Clock and log.</param>
internal sealed class LoadProgress(HostServices services)
{
    private static readonly TimeSpan s_first = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_longest = TimeSpan.FromSeconds(30);

    /// <summary>Loads a component.</summary>
    /// <param name="component">It.</param>
    /// <param name="number">Which one it is, from 1.</param>
    /// <param name="count">Of how many.</param>
    /// <param name="cancellation">Ends it with an <see cref="OperationCanceledException"/>.</param>
    public async Task RunAsync(IServedComponent component, int number, int count, CancellationToken cancellation)
    {
        if (count > 1)
        {
            HostLog.LoadingOne(services.Log, number, count, component.Name);
        }

        using CancellationTokenSource ended = new();
        Task telling = TellAsync(component, ended.Token);
        try
        {
            await component.LoadAsync(cancellation).ConfigureAwait(false);
        }
        finally
        {
            await ended.CancelAsync().ConfigureAwait(false);
            await telling.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>After 2 seconds, then twice as late each time, and every 30 seconds in the end.</summary>
    private async Task TellAsync(IServedComponent component, CancellationToken ended)
    {
        TimeSpan elapsed = TimeSpan.Zero;
        for (TimeSpan wait = s_first; true; wait = elapsed < s_longest ? elapsed : s_longest)
        {
            await Task.Delay(wait, services.Time, ended).ConfigureAwait(false);
            elapsed += wait;
            HostLog.StillLoading(services.Log, component.Name, component.Step, elapsed.TotalSeconds.ToString("0", CultureInfo.InvariantCulture));
        }
    }
}
