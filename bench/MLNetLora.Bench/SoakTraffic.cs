namespace MLNetLora.Bench;

/// <summary>Clients that ask what is known, and some that misbehave.</summary>
internal sealed class SoakTraffic(SoakClient client, SoakBalancer balancer, SoakJudge judge, IReadOnlyList<SoakTarget> targets, int mostBytes, SoakTally tally)
{
    private const int Burst = 48;
    private readonly SoakMischief _mischief = new(client, balancer, judge, targets[0].Name, mostBytes, tally);
    private long _under;

    /// <summary>Requests that are under way and whose answers are known.</summary>
    public long UnderWay => Interlocked.Read(ref _under);

    /// <summary>One client.</summary>
    /// <param name="seed">Of what it does.</param>
    /// <param name="cancellation">Ends it after what it has begun.</param>
    public async Task RunAsync(int seed, CancellationToken cancellation)
    {
        Random random = new(seed);
        while (!cancellation.IsCancellationRequested)
        {
            int what = random.Next(1000);
            if (what < 720)
            {
                await CheckedAsync(random, isSlow: false);
            }
            else if (what < 740)
            {
                await CheckedAsync(random, isSlow: true);
            }
            else if (what < 744)
            {
                await Task.WhenAll(Enumerable.Range(0, Burst).Select(_ => CheckedAsync(new Random(random.Next()), isSlow: false)));
                tally.Count("bursts");
            }
            else
            {
                await _mischief.DoAsync(random);
            }
        }
    }

    private async Task CheckedAsync(Random random, bool isSlow)
    {
        int place = random.Next(3) == 0 ? 0 : random.Next(targets.Count);
        SoakTarget target = targets[place];
        SoakRequest request = judge.Requests[random.Next(judge.Requests.Count)];
        bool isStream = random.Next(2) == 0;
        Interlocked.Increment(ref _under);
        try
        {
            if (await client.AskAsync(request.Path, request.Body(target.Name, isStream), isSlow) is { } reply)
            {
                tally.Count(client.IsEnding ? "at the end: answered" : "answers");
                judge.Check(request, target, isStream, reply);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _under);
        }
    }
}
