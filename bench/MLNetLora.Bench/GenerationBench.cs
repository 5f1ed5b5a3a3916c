using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Bench;

/// <summary>What to generate: random prompts; ends of text are not waited for but cut by the number of tokens.</summary>
/// <param name="Model">Checkpoint folder.</param>
/// <param name="Prompt">Tokens of a prompt.</param>
/// <param name="Tokens">Tokens to generate for each.</param>
/// <param name="Together">Prompts at once.</param>
/// <param name="Threads">Threads; 0 takes all cores.</param>
/// <param name="Rounds">Measurements of each kind; the median counts.</param>
internal sealed record GenerationSetting(string Model, int Prompt, int Tokens, int Together, int Threads, int Rounds)
{
    /// <summary>Which to measure.</summary>
    public IReadOnlyList<WeightPrecision> Precisions { get; init; } = Enum.GetValues<WeightPrecision>();
}

/// <summary>One precision's speeds, tokens per second.</summary>
/// <param name="Precision">How the weights were held.</param>
/// <param name="Load">Seconds from the opened checkpoint to a model that can generate.</param>
/// <param name="Prefill">Tokens of one prompt up to its first new token.</param>
/// <param name="Decode">One prompt, from the second new token on.</param>
/// <param name="DecodeAtOnce">The same with all prompts as one batch.</param>
/// <param name="PrivateBytes">Anonymous memory of the process with the model loaded, before the first prompt, beyond what there was without it.</param>
/// <param name="PeakBytes">Highest private memory of the process, loading and the batch included.</param>
internal sealed record GenerationResult(WeightPrecision Precision, double Load, double Prefill, double Decode, double DecodeAtOnce, long PrivateBytes,
    long PeakBytes)
{
    /// <summary>One prompt, tokens drawn (temperature 0.7, top-k 20, top-p 0.8) instead of the most likely one taken.</summary>
    public double Sampled { get; init; }

    /// <summary>The same with all prompts as one batch.</summary>
    public double SampledAtOnce { get; init; }
}

/// <summary>llama.cpp on the same weights, and the precision of ours that it stands beside.</summary>
internal sealed record GenerationPeer(WeightPrecision Precision, double Prefill, double Decode);

/// <summary>Prefill and decode speed of a checkpoint folder, one prompt at a time and several at once, beside llama.cpp's.</summary>
internal static class GenerationBench
{
    // The rounds ask the same prompts, which are to be read each time.
    private static readonly EngineOptions NothingKept = new() { PrefixCacheBytes = 0 };

    /// <summary>Measures and prints.</summary>
    /// <param name="setting">What to generate.</param>
    /// <param name="llama">Command that starts llama-bench, to which -m FILE -t … -p … -n … is added; null for no peer.</param>
    /// <param name="ggufs">Files for it: those of float32, 8 and 4 bits.</param>
    /// <param name="profile">Prints the most expensive operators and nodes, too.</param>
    /// <param name="json">Measures the first precision alone and prints one line of JSON.</param>
    public static void Run(GenerationSetting setting, string? llama, string[] ggufs, bool profile, bool json)
    {
        if (json)
        {
            Console.WriteLine(JsonSerializer.Serialize(Measure(setting, setting.Precisions[0])));
            return;
        }

        Console.WriteLine(
            $"model           {setting.Model}, {setting.Prompt} + {setting.Tokens} tokens, {setting.Together} prompts at once, medians of {setting.Rounds}");
        Console.WriteLine($"weights       load s  prefill  decode  {setting.Together,3} at once   ratio  private GB  peak GB  sampled, of greedy");
        foreach (WeightPrecision precision in setting.Precisions)
        {
            // The peer runs before and after, so that both see the machine's faster and slower minutes.
            GenerationPeer? before = Peer(precision, llama, ggufs, setting);
            GenerationResult ours = Measure(setting, precision);
            GenerationPeer? after = Peer(precision, llama, ggufs, setting);
            Console.WriteLine(
                $"{precision,-12} {ours.Load,7:F1} {ours.Prefill,8:F1} {ours.Decode,7:F1} {ours.DecodeAtOnce,12:F1} {ours.DecodeAtOnce / ours.Decode,6:F1}x "
                + $"{ours.PrivateBytes / 1e9,11:F2} {ours.PeakBytes / 1e9,8:F2} {ours.Sampled / ours.Decode,10:F2} "
                + $"{ours.SampledAtOnce / ours.DecodeAtOnce:F2}");
            if (before is not null && after is not null)
            {
                (double prefill, double decode) = ((before.Prefill + after.Prefill) / 2, (before.Decode + after.Decode) / 2);
                Console.WriteLine(
                    $"  llama.cpp          {prefill,8:F1} {decode,7:F1}   ratio: prefill {ours.Prefill / prefill:F2}, decode {ours.Decode / decode:F2}");
            }
        }

        if (profile)
        {
            foreach (WeightPrecision precision in setting.Precisions)
            {
                Profile(setting, precision, 1).Print($"{precision}, prefill");
                Profile(setting, precision, setting.Tokens).Print($"{precision}, prefill and {setting.Tokens - 1} decodes");
                Profile(setting, precision, setting.Tokens, setting.Together).Print(
                    $"{precision}, prefill and {setting.Tokens - 1} decodes of {setting.Together} at once");
            }
        }
    }

    /// <summary>Loads a checkpoint with a precision and measures it.</summary>
    internal static GenerationResult Measure(GenerationSetting setting, WeightPrecision precision)
    {
        PeakMemory.Trim();
        long without = PeakMemory.Now();
        using PeakMemory memory = new();
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(setting.Model));
        long begun = Stopwatch.GetTimestamp();
        using CausalLanguageModel lm = new(checkpoint, threads: setting.Threads, precision: precision, engine: NothingKept);
        double load = Stopwatch.GetElapsedTime(begun).TotalSeconds;
        long loaded = PeakMemory.Now() - without;
        int[][] prompts = Prompts(setting, checkpoint);
        Time(1, 2);
        List<double> first = [], one = [], firstMany = [], many = [], sampledOne = [], sampledMany = [];
        for (int round = 0; round < setting.Rounds; round++)
        {
            first.Add(Time(1, 1));
            one.Add(Time(1, setting.Tokens));
            sampledOne.Add(Time(1, setting.Tokens, sampled: true));
            firstMany.Add(Time(setting.Together, 1));
            many.Add(Time(setting.Together, setting.Tokens));
            sampledMany.Add(Time(setting.Together, setting.Tokens, sampled: true));
        }

        return new GenerationResult(precision, load, setting.Prompt / Median(first), Speed(1, one, first), Speed(setting.Together, many, firstMany), loaded,
            memory.Peak)
        {
            Sampled = Speed(1, sampledOne, first),
            SampledAtOnce = Speed(setting.Together, sampledMany, firstMany),
        };

        // From the second token on.
        double Speed(int rows, List<double> whole, List<double> beginning) => rows * (setting.Tokens - 1L) / (Median(whole) - Median(beginning));

        double Time(int rows, int count, bool sampled = false)
        {
            long start = Stopwatch.GetTimestamp();
            GenerationOptions options = new() { MaximumNewTokens = count, Temperature = sampled ? 0.7f : 0, TopK = 20, TopP = 0.8f, Seed = 1 };
            IReadOnlyList<GeneratedIds> answers = lm.Generate(prompts[..rows], options, vocabularyLimit: Limit(checkpoint));
            double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            return answers.All(answer => answer.Ids.Count == count)
                ? seconds
                : throw new InvalidOperationException("An answer ended early; the figures would not be comparable.");
        }
    }

    /// <summary>Where generation spends its time.</summary>
    internal static ProfileTable Profile(GenerationSetting setting, WeightPrecision precision, int tokens, int rows = 1) => ProfileTable.Of(() =>
    {
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(setting.Model));
        using CausalLanguageModel lm = new(checkpoint, threads: setting.Threads, precision: precision, engine: NothingKept);
        lm.Generate(Prompts(setting, checkpoint)[..rows], new GenerationOptions { MaximumNewTokens = tokens });
    }, "inference_model");

    /// <summary>One run of llama-bench; null where there is no command or no file for this precision.</summary>
    internal static GenerationPeer? Peer(WeightPrecision precision, string? llama, string[] ggufs, GenerationSetting setting)
    {
        if (llama is null || (int)precision >= ggufs.Length)
        {
            return null;
        }

        string[] command = llama.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        int threads = setting.Threads == 0 ? Environment.ProcessorCount : setting.Threads;
        ProcessStartInfo start = new(command[0],
            [.. command[1..], "-m", ggufs[(int)precision], "-t", $"{threads}", "-p", $"{setting.Prompt}", "-n", $"{setting.Tokens}", "-r", "3", "-o", "csv"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{llama} did not start.");
        process.ErrorDataReceived += (_, _) => { };
        process.BeginErrorReadLine();
        string[][] rows = [.. process.StandardOutput.ReadToEnd().Split('\n',
            StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(',').Select(cell => cell.Trim('"', '\r')).ToArray())];
        process.WaitForExit();
        if (process.ExitCode != 0 || rows.Length < 3)
        {
            throw new InvalidOperationException($"{llama} ended with {process.ExitCode} and {rows.Length} lines; a header and two rows were expected.");
        }

        int prompt = Array.IndexOf(rows[0], "n_prompt");
        int speed = Array.IndexOf(rows[0], "avg_ts") - rows[0].Length; // counted from the end: the processor's name may hold a comma
        return new GenerationPeer(precision, Speed(rows.First(row => row[prompt + row.Length - rows[0].Length] != "0" && row != rows[0])), Speed(rows.Last()));

        double Speed(string[] row) => double.Parse(row[row.Length + speed], CultureInfo.InvariantCulture);
    }

    private static int[][] Prompts(GenerationSetting setting, Checkpoint checkpoint)
    {
        Random random = new(1);
        return [
            .. Enumerable.Range(0, setting.Together).Select(_ => Enumerable.Range(0, setting.Prompt).Select(_ => random.Next(Limit(checkpoint))).ToArray())];
    }

    // Below every end of text, so that no answer ends early.
    private static int Limit(Checkpoint checkpoint) => checkpoint.Config.EosTokenIds.Append(checkpoint.Config.VocabSize).Min();

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
