using System.Diagnostics;
using System.Net;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Adapters;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;

namespace MLNetLora.Bench;

/// <summary>What is asked of a server.</summary>
/// <param name="Model">Checkpoint folder.</param>
/// <param name="Precision">How its weights are held.</param>
/// <param name="AtOnce">Requests under way at a time, several loads one after another.</param>
/// <param name="Rate">Arrivals per second, drawn from a Poisson process; 0 sends the next when one is answered.</param>
/// <param name="Rounds">Requests for each of those at once.</param>
/// <param name="Prompt">Tokens of a prompt, from a fifth of it to all, small ones more often.</param>
/// <param name="Tokens">Tokens of an answer, the same.</param>
internal sealed record ServingSetting(string Model, WeightPrecision Precision, int[] AtOnce, double Rate, int Rounds, int Prompt, int Tokens);

/// <summary>One request: random tokens, and as many of an answer.</summary>
internal sealed record ServingRequest(int[] Prompt, int Tokens, int Client);

/// <summary>What a load measured.</summary>
/// <param name="TokensPerSecond">New tokens of all requests together.</param>
/// <param name="First">Seconds to the first token of each.</param>
/// <param name="Between">Seconds between two tokens of a request.</param>
internal sealed record ServingResult(double TokensPerSecond, double[] First, double[] Between)
{
    public static double At(double[] sorted, double share) => sorted.Length == 0 ? double.NaN : sorted[(int)Math.Min(sorted.Length - 1, share * sorted.Length)];

    public override string ToString() =>
        $"{TokensPerSecond,8:F1} {At(First, 0.5) * 1000,9:F0} {At(First, 0.95) * 1000,9:F0} {At(Between, 0.5) * 1000,9:F1} {At(Between, 0.95) * 1000,9:F1}";
}

/// <summary>Many requests at a time, mixed lengths: our engine, or our service and llama-server by the same client.</summary>
internal static class ServingBench
{
    private delegate Task Send(ServingRequest request, Action onToken);

    /// <summary>Measures and prints.</summary>
    /// <param name="setting">What is asked.</param>
    /// <param name="ours">Where our service listens, with the model's name behind a #; null measures the engine without HTTP.</param>
    /// <param name="llama">Where llama-server listens; null for no peer.</param>
    public static async Task Run(ServingSetting setting, string? ours, string? llama)
    {
        Checkpoint checkpoint = Checkpoint.Open(setting.Model);
        int vocabulary = Math.Min(checkpoint.Config.VocabSize, 4096); // tokens that every tokenizer has
        Console.WriteLine($"model    {setting.Model} {setting.Precision}, prompts to {setting.Prompt}, answers to {setting.Tokens} tokens, "
            + (setting.Rate > 0 ? $"{setting.Rate} arrivals per second" : "closed loop"));
        Console.WriteLine("                     tokens/s  first p50  p95 ms  between p50  p95 ms");
        using CausalLanguageModel? engine = ours is null ? new CausalLanguageModel(checkpoint, precision: setting.Precision) : null;
        Send own = engine is not null ? (request, onToken) => Ask(engine, request, onToken) : Http(ours!);
        foreach (int atOnce in setting.AtOnce)
        {
            // The peer before and after, so that both see the machine's faster and slower minutes.
            ServingResult? before = llama is null ? null : await Load(Http(llama), Next(1), atOnce, setting.Rate);
            ServingResult measured = await Load(own, Next(2), atOnce, setting.Rate);
            Console.WriteLine($"{atOnce,4} at once, ours    {measured}");
            Compare(measured, before);
            Compare(measured, llama is null ? null : await Load(Http(llama), Next(3), atOnce, setting.Rate));

            // The same lengths, other tokens: neither is to know a prompt already.
            ServingRequest[] Next(int seed) => Requests(setting, atOnce * setting.Rounds, vocabulary, seed);
        }
    }

    private static void Compare(ServingResult ours, ServingResult? peer)
    {
        if (peer is not null)
        {
            Console.WriteLine($"           llama.cpp  {peer}   ours/peer: tokens {ours.TokensPerSecond / peer.TokensPerSecond:F2}, "
                + $"first p95 {At95(ours.First) / At95(peer.First):F2}, between p95 {At95(ours.Between) / At95(peer.Between):F2}");
        }
    }

    /// <summary>The same load on the base, on one adapter and on several at a time, in one engine.</summary>
    /// <param name="setting">What is asked.</param>
    /// <param name="adapters">How many.</param>
    /// <param name="rank">Their rank.</param>
    /// <param name="targets">Their layers.</param>
    public static async Task Adapters(ServingSetting setting, int adapters, int rank, TargetModules targets)
    {
        Checkpoint checkpoint = Checkpoint.Open(setting.Model);
        using CausalLanguageModel plain = new(checkpoint, precision: setting.Precision);
        LoraAdapter adapter = LoraAdapter.Create(new LoraOptions { Rank = rank, TargetModules = targets }, checkpoint, 1);
        using CausalLanguageModel engine = new(
            checkpoint, precision: setting.Precision, engine: new EngineOptions { AdapterModules = targets });
        CausalLanguageModel[] attached = [.. Enumerable.Range(0, adapters).Select(_ => engine.Attach(adapter))];
        Console.WriteLine($"model    {setting.Model} {setting.Precision}, rank {rank} on {targets}");
        Console.WriteLine("                     tokens/s  first p50  p95 ms  between p50  p95 ms");
        foreach (int atOnce in setting.AtOnce)
        {
            ServingRequest[] requests = Requests(setting, atOnce * setting.Rounds, Math.Min(checkpoint.Config.VocabSize, 4096));
            for (int round = 0; round < 2; round++)
            {
                (string Name, Send Send)[] loads =
                [
                    ("base, no adapters", (request, onToken) => Ask(plain, request, onToken)),
                    ("base beside them", (request, onToken) => Ask(engine, request, onToken)),
                    ("1 adapter", (request, onToken) => Ask(attached[0], request, onToken)),
                    ($"{adapters} adapters", (request, onToken) => Ask(attached[request.Client % adapters], request, onToken)),
                ];
                foreach ((string name, Send send) in loads)
                {
                    Console.WriteLine($"{atOnce,4} {name,-17} {await Load(send, requests, atOnce, 0)}");
                }
            }
        }
    }

    /// <summary>Time to the first token behind a beginning that is known, beside that of a short prompt.</summary>
    public static async Task Prefix(ServingSetting setting, int common)
    {
        Checkpoint checkpoint = Checkpoint.Open(setting.Model);
        using CausalLanguageModel engine = new(checkpoint, precision: setting.Precision);
        Random random = new(1);
        int[] Ids(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(3, 4096))];
        int[] shared = Ids(common);
        await Load((request, onToken) => Ask(engine, request, onToken), [new([.. shared, .. Ids(50)], 1, 0)], 1, 0);
        List<double> shorts = [];
        List<double> longs = [];
        for (int i = 0; i < 11; i++)
        {
            shorts.Add((await Load((request, onToken) => Ask(engine, request, onToken), [new(Ids(50), 1, 0)], 1, 0)).First[0]);
            longs.Add((await Load((request, onToken) => Ask(engine, request, onToken), [new([.. shared, .. Ids(50)], 1, 0)], 1, 0)).First[0]);
        }

        shorts.Sort();
        longs.Sort();
        Console.WriteLine(
            $"first token, median of 11: 50 tokens {shorts[5] * 1000:F0} ms; {common} known and 50 {longs[5] * 1000:F0} ms, ratio {longs[5] / shorts[5]:F2}");
    }

    private static ServingRequest[] Requests(ServingSetting setting, int count, int vocabulary, int seed = 1)
    {
        Random random = new(7);
        Random tokens = new(seed);
        return [.. Enumerable.Range(0, count).Select(i => new ServingRequest(
            [.. Enumerable.Range(0, Size(setting.Prompt)).Select(_ => tokens.Next(3, vocabulary))], Size(setting.Tokens), i))];

        int Size(int most) => Math.Max(1, (int)(most * Math.Pow(5, -random.NextDouble())));
    }

    private static async Task<ServingResult> Load(Send send, ServingRequest[] requests, int atOnce, double rate)
    {
        List<double> first = [];
        List<double> between = [];
        int tokens = 0;
        Random random = new(11);
        using SemaphoreSlim places = new(atOnce);
        Stopwatch all = Stopwatch.StartNew();
        double arrival = 0;
        List<Task> open = [];
        foreach (ServingRequest request in requests)
        {
            if (rate > 0)
            {
                arrival -= Math.Log(1 - random.NextDouble()) / rate;
                await Task.Delay(TimeSpan.FromSeconds(Math.Max(0, arrival - all.Elapsed.TotalSeconds)));
            }
            else
            {
                await places.WaitAsync();
            }

            open.Add(One(request));
        }

        await Task.WhenAll(open);
        double seconds = all.Elapsed.TotalSeconds;
        first.Sort();
        between.Sort();
        return new ServingResult(tokens / seconds, [.. first], [.. between]);

        async Task One(ServingRequest request)
        {
            List<double> times = [];
            Stopwatch watch = Stopwatch.StartNew();
            await send(request, () => times.Add(watch.Elapsed.TotalSeconds));
            lock (first)
            {
                first.Add(times[0]);
                between.AddRange(times.Skip(1).Zip(times, (after, before) => after - before));
                tokens += request.Tokens; // some tokens complete no text, and come with the next
            }

            if (rate <= 0)
            {
                places.Release();
            }
        }
    }

    private static async Task Ask(CausalLanguageModel model, ServingRequest request, Action onToken)
    {
        GenerationOptions options = model.Prepare(new GenerationOptions { MaximumNewTokens = request.Tokens, Temperature = 0 });
        GenerationRequest begun = model.Begin(
            request.Prompt,
            options,
            _ =>
            {
                onToken();
                return false;
            },
            0,
            CancellationToken.None);
        await begun.Answer;
    }

    /// <summary>POST /v1/completions with token ids, streamed; each data line with text or a finish is a token.</summary>
    private static Send Http(string address)
    {
        string[] parts = address.Split('#');

        // A connection for each request: llama-server closes those that it has kept for a while, also when the next request is on its way.
        SocketsHttpHandler handler = new() { MaxConnectionsPerServer = 1024, PooledConnectionLifetime = TimeSpan.Zero };
        HttpClient client = new(handler) { BaseAddress = new Uri(parts[0]), Timeout = TimeSpan.FromMinutes(30) };
        return async (request, onToken) =>
        {
            JsonObject body = new()
            {
                ["model"] = parts.Length > 1 ? parts[1] : "model",
                ["prompt"] = new JsonArray([.. request.Prompt.Select(id => (JsonNode)id)]),
                ["max_tokens"] = request.Tokens,
                ["temperature"] = 0,
                ["ignore_eos"] = true,
                ["stream"] = true,
            };
            using HttpRequestMessage message = new(HttpMethod.Post, "/v1/completions")
            {
                Content = new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json"),
            };
            using HttpResponseMessage response = await client.SendAsync(message, HttpCompletionOption.ResponseHeadersRead);
            if (response.StatusCode != HttpStatusCode.OK)
            {
                throw new InvalidOperationException($"{address}: {(int)response.StatusCode} {await response.Content.ReadAsStringAsync()}");
            }

            using StreamReader reader = new(await response.Content.ReadAsStreamAsync());
            int seen = 0;
            while (await reader.ReadLineAsync() is { } line)
            {
                if (line.StartsWith("data: {", StringComparison.Ordinal) && seen < request.Tokens)
                {
                    seen++;
                    onToken();
                }
            }

            if (seen == 0)
            {
                throw new InvalidOperationException($"{address} gave no token.");
            }
        };
    }

    private static double At95(double[] sorted) => ServingResult.At(sorted, 0.95);
}
