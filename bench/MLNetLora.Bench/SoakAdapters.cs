using System.Text;
using System.Text.Json;

namespace MLNetLora.Bench;

/// <summary>Adapters that come, go and change all the time, over HTTP and in the watched folder.</summary>
internal sealed class SoakAdapters(SoakFolder folder, SoakClient client, SoakBalancer balancer, SoakTally tally, bool isRolling)
{
    private const string Comes = "soak-http";
    private const string Swapped = "soak-http-swapped";
    private const string Appears = "soak-folder";
    private const string Replaced = "soak-folder-swapped";
    private const string Linked = "soak-link-swapped";

    private static readonly string[] s_swapped = ["w3", "w4"];
    private static readonly string[] s_replaced = ["w5", "w6"];
    private static readonly string[] s_linked = ["w7", "w3"];

    /// <summary>What may be asked, and what may answer. Who is restarted knows nothing of what was loaded over HTTP.</summary>
    public IReadOnlyList<SoakTarget> Targets { get; } =
    [
        new(SoakServices.Base, [SoakServices.Base], false),
        new(SoakServices.Fixed, [SoakServices.FixedWeights], false),
        new(Comes, ["w2"], true),
        new(Swapped, s_swapped, isRolling),
        new(Appears, ["w2"], true),
        new(Replaced, s_replaced, isRolling),
        new(Linked, s_linked, false),
    ];

    /// <summary>Asks each adapter alone, under a name that is only for this.</summary>
    public async Task LearnAsync(SoakJudge judge)
    {
        foreach (SoakReplica replica in balancer.Replicas)
        {
            replica.IsReady = replica == balancer.Replicas[0]; // the only one that has the adapter
        }

        await judge.LearnAsync(client, SoakServices.Base, SoakServices.Base);
        foreach (string adapter in SoakFolder.Adapters)
        {
            await LoadAsync(balancer.Replicas[0], "soak-alone", adapter, 200);
            await judge.LearnAsync(client, "soak-alone", adapter);
            await UnloadAsync(balancer.Replicas[0], "soak-alone", 200);
        }

        foreach (SoakReplica replica in balancer.Replicas)
        {
            replica.IsReady = true;
        }
    }

    /// <summary>What is to be there from the beginning.</summary>
    public async Task BeginAsync()
    {
        foreach (SoakReplica replica in balancer.Replicas)
        {
            await LoadAsync(replica, Swapped, s_swapped[0], 200);
        }

        Replace(s_replaced[0]);
        Link(s_linked[0]);
        await Task.Delay(TimeSpan.FromSeconds(4)); // two looks and the loading
    }

    /// <summary>Over HTTP, until it is cancelled.</summary>
    public async Task RequestsAsync(int seed, CancellationToken cancellation)
    {
        Random random = new(seed);
        HashSet<SoakReplica> loaded = [];
        while (await PauseAsync(random, 100, 900, cancellation))
        {
            SoakReplica replica = balancer.Replicas[random.Next(balancer.Replicas.Count)];
            switch (random.Next(7))
            {
                case 0 or 1 or 2 when !isRolling:
                    if (loaded.Add(replica))
                    {
                        await LoadAsync(replica, Comes, "w2", 200);
                    }
                    else
                    {
                        loaded.Remove(replica);
                        await UnloadAsync(replica, Comes, 200);
                    }

                    break;
                case 0 or 1 or 2: // 400 where it is there already, 404 where it is not
                    await (random.Next(2) == 0 ? LoadAsync(replica, Comes, "w2", 200, 400) : UnloadAsync(replica, Comes, 200, 404));
                    break;
                case 3 or 4:
                    await LoadAsync(replica, Swapped, s_swapped[random.Next(2)], 200);
                    break;
                case 5:
                    await LoadAsync(replica, Swapped, SoakFolder.Broken, 400);
                    break;
                default:
                    await LoadAsync(replica, Swapped, random.Next(2) == 0 ? "../staging" : "nothing", 400, 404);
                    break;
            }
        }
    }

    /// <summary>In the folder, until it is cancelled.</summary>
    public async Task FolderAsync(int seed, CancellationToken cancellation)
    {
        Random random = new(seed);
        string place = Path.Combine(folder.Watched, Appears);
        while (await PauseAsync(random, 300, 2500, cancellation))
        {
            switch (random.Next(4))
            {
                case 0 when Directory.Exists(place):
                    Remove(place);
                    break;
                case 0:
                    Directory.Move(folder.Copied("w2"), place);
                    break;
                case 1:
                    // Who starts while a broken one lies there has no old one that could answer.
                    bool isBroken = !isRolling && random.Next(3) == 0;
                    Replace(isBroken ? SoakFolder.Broken : s_replaced[random.Next(2)]);
                    tally.Count(isBroken ? "adapters: broken one put into the folder" : "adapters: folder replaced");
                    break;
                case 2:
                    Link(s_linked[random.Next(2)]);
                    tally.Count("adapters: link changed");
                    break;
                default:
                    continue;
            }
        }
    }

    private void Replace(string adapter)
    {
        string place = Path.Combine(folder.Watched, Replaced);
        string next = folder.Copied(adapter);
        string old = Path.Combine(folder.Staging, Guid.NewGuid().ToString("N"));
        if (Directory.Exists(place))
        {
            Directory.Move(place, old); // for a moment nothing is there, which a look may see, and two do not
        }

        Directory.Move(next, place);
        if (Directory.Exists(old))
        {
            Directory.Delete(old, recursive: true);
        }
    }

    private void Link(string adapter)
    {
        string next = Path.Combine(folder.Watched, ".next");
        File.CreateSymbolicLink(next, Path.Combine(folder.Root, adapter));
        SoakNative.Rename(next, Path.Combine(folder.Watched, Linked));
    }

    private void Remove(string place)
    {
        string old = Path.Combine(folder.Staging, Guid.NewGuid().ToString("N"));
        Directory.Move(place, old);
        Directory.Delete(old, recursive: true);
        tally.Count("adapters: folder taken away");
    }

    private Task LoadAsync(SoakReplica replica, string name, string adapter, params int[] expected) =>
        AdminAsync(replica, "load_lora_adapter", new { lora_name = name, lora_path = adapter, load_inplace = name == Swapped }, expected);

    private Task UnloadAsync(SoakReplica replica, string name, params int[] expected) =>
        AdminAsync(replica, "unload_lora_adapter", new { lora_name = name }, expected);

    private async Task AdminAsync<T>(SoakReplica replica, string path, T body, int[] expected)
    {
        long sent = System.Diagnostics.Stopwatch.GetTimestamp();
        string json = JsonSerializer.Serialize(body);
        try
        {
            using StringContent content = new(json, Encoding.UTF8, "application/json");
            SoakReply reply = await client.OnceAsync(replica, path, content, SoakServices.AdminKey);
            tally.Count($"adapters: {path} {reply.Status}");
            if (!expected.Contains(reply.Status) && !(reply.Status == 503 && (isRolling || client.IsEnding)))
            {
                tally.Fault(path, $"{reply.Status} {reply.Body}\n{json}");
            }
        }
        catch (Exception error) when (error is HttpRequestException or IOException or OperationCanceledException)
        {
            if (!SoakClient.WasRefused(error) && !replica.WasTold(sent))
            {
                tally.Fault("cut", $"{replica.Address}{path}: {error.Message} {error.InnerException?.Message}\n{json}");
            }
        }
    }

    private static Task<bool> PauseAsync(Random random, int least, int most, CancellationToken cancellation) =>
        SoakPause.ForAsync(TimeSpan.FromMilliseconds(random.Next(least, most)), cancellation);
}
