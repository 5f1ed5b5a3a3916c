using System.CommandLine;
using System.CommandLine.Parsing;
using MLNetLora.Quantization;

namespace MLNetLora.Bench;

/// <summary>The options of the load test.</summary>
internal static class SoakCommand
{
    /// <summary>The command.</summary>
    public static Command Create()
    {
        Option<double> minutes = new("--minutes") { DefaultValueFactory = _ => 30, Description = "How long the traffic lasts" };
        Option<int> atOnce = new("--at-once") { DefaultValueFactory = _ => 24, Description = "Clients, each with one request under way at a time" };
        Option<string[]> ours = new("--ours")
        {
            DefaultValueFactory = _ => [],
            Description = "A service that runs already, http://…#MODEL,ADAPTER,…, several times for several services. Without it some are started",
        };
        Option<int[]> pids = new("--pid")
        {
            DefaultValueFactory = _ => [],
            Description = "Processes of --ours in the same order, for their memory and for --drain; without them memory is read from /metrics",
        };
        Option<string?> key = new("--key") { Description = "API key of --ours" };
        Option<int> replicas = new("--replicas") { DefaultValueFactory = _ => 1, Description = "Services that are started" };
        Option<string?> start = new("--start") { Description = "ScoringService.dll that is started; by default the sample's, built with this program" };
        Option<string?> model = new("--model") { Description = "Checkpoint folder that they serve; by default the sample's qwen3-nano" };
        Option<WeightPrecision> precision = new("--precision")
        {
            DefaultValueFactory = _ => WeightPrecision.Checkpoint,
            Description = "How they hold the weights; computed is in float32 with those of the checkpoint",
        };
        Option<bool> drain = new("--drain") { Description = "SIGTERM to all services at the end, under load" };
        Option<bool> rolling = new("--rolling") { Description = "Restarts the services one after another all the time; needs two --replicas" };
        Option<int> seed = new("--seed") { DefaultValueFactory = _ => 1, Description = "Of the traffic" };
        Option<string?> folder = new("--folder") { Description = "Where adapters and the services' logs are written; by default a new temporary folder" };
        Command command = new("soak", "Mixed traffic, misbehaving clients, adapters that come and go: every answer of a service compared with itself alone")
        {
            minutes, atOnce, ours, pids, key, replicas, start, model, precision, drain, rolling, seed, folder
        };
        minutes.Validators.Add(p => RequireMore(p, p.GetValueOrDefault<double>()));
        atOnce.Validators.Add(p => RequireMore(p, p.GetValueOrDefault<int>()));
        replicas.Validators.Add(p => RequireMore(p, p.GetValueOrDefault<int>()));
        command.Validators.Add(p =>
        {
            int running = p.GetResult(ours)?.Tokens.Count ?? 0; // what is not given has no value yet
            if (p.GetResult(rolling) is not null && (p.GetResult(replicas) is not { Tokens.Count: > 0 } || p.GetValue(replicas) < 2 || running > 0))
            {
                p.AddError("--rolling needs --replicas 2 or more, which are started here.");
            }

            if (p.GetResult(drain) is not null && running > (p.GetResult(pids)?.Tokens.Count ?? 0))
            {
                p.AddError("--drain needs a --pid for each of --ours.");
            }
        });
        command.SetAction((p, cancellation) => SoakBench.RunAsync(
            new SoakSetting(
                p.GetValue(minutes),
                p.GetValue(atOnce),
                p.GetValue(ours)!,
                p.GetValue(pids)!,
                p.GetValue(key),
                p.GetValue(replicas),
                p.GetValue(start),
                p.GetValue(model) ?? Path.Combine(SoakService.Repository, "samples", "models", "qwen3-nano"),
                p.GetValue(precision),
                p.GetValue(drain),
                p.GetValue(rolling),
                p.GetValue(seed),
                p.GetValue(folder) ?? Directory.CreateTempSubdirectory("mlnetlora-soak-").FullName),
            cancellation));
        return command;
    }

    private static void RequireMore(OptionResult option, double value)
    {
        if (!(value > 0))
        {
            option.AddError($"{option.Option.Name} must be more than 0.");
        }
    }
}
