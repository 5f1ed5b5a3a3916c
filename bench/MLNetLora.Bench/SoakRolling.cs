namespace MLNetLora.Bench;

/// <summary>Restarts services one after another, as a rolling update does, while they are asked.</summary>
internal sealed class SoakRolling(SoakServices services, SoakBalancer balancer, SoakTally tally)
{
    private static readonly TimeSpan s_between = TimeSpan.FromSeconds(3);

    /// <summary>Until it is cancelled, to the end of a restart.</summary>
    public async Task RunAsync(CancellationToken cancellation)
    {
        for (int turn = 0; await SoakPause.ForAsync(s_between, cancellation); turn++)
        {
            int index = turn % services.Replicas.Count;
            await SoakEnd.StopAsync(services.Replicas[index], tally);
            await services.StartAsync(index, balancer);
            tally.Count("restarts");
        }
    }
}

/// <summary>Ends services with SIGTERM.</summary>
internal static class SoakEnd
{
    private static readonly TimeSpan s_longest = TimeSpan.FromMinutes(1);

    /// <summary>Tells one to end, and waits for it.</summary>
    public static async Task StopAsync(SoakReplica replica, SoakTally tally)
    {
        System.Diagnostics.Process process = replica.Process!;
        System.Diagnostics.Stopwatch watch = System.Diagnostics.Stopwatch.StartNew();
        replica.Told();
        SoakNative.Terminate(process.Id);
        using CancellationTokenSource patience = new(s_longest);
        try
        {
            await process.WaitForExitAsync(patience.Token);
        }
        catch (OperationCanceledException)
        {
            tally.Fault("does not end", $"{replica.Address} is there {s_longest.TotalSeconds} s after SIGTERM");
            process.Kill();
            return;
        }

        tally.Took("from SIGTERM to the end of the process", watch.Elapsed.TotalSeconds);
        if (replica.Service is not null && process.ExitCode != 0)
        {
            tally.Fault("exit code", $"{replica.Address} ended with {process.ExitCode}; see {replica.Service.LogPath}");
        }
    }
}
