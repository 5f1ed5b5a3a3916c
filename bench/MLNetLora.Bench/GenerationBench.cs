using System.Diagnostics;
using System.Globalization;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;

namespace MLNetLora.Bench;

/// <summary>Prefill and decode speed of a checkpoint folder, one prompt at a time and several at once. Random prompts; ends of text are not waited for but cut by the number of tokens.</summary>
internal static class GenerationBench
{
    public static void Run(string model, int prompt, int tokens, int together, int threads)
    {
        using PeakMemory memory = new();
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(model));
        long begun = Stopwatch.GetTimestamp();
        using CausalLanguageModel lm = new(checkpoint, threads: threads);
        double load = Stopwatch.GetElapsedTime(begun).TotalSeconds;
        Random random = new(1);
        int[][] prompts = [.. Enumerable.Range(0, together).Select(_ => Enumerable.Range(0, prompt).Select(_ => random.Next(checkpoint.Config.VocabSize)).ToArray())];
        Time(1, 2);
        (double first, double one) = (Time(1, 1), Time(1, tokens));
        (double firstMany, double many) = (Time(together, 1), Time(together, tokens));
        double decodeOne = (tokens - 1) / (one - first);
        double decodeMany = together * (tokens - 1) / (many - firstMany);
        Print($"model                        {checkpoint.Folder}");
        Print($"session                      {load:F1} s");
        Print($"prefill                      {prompt / first:F1} tokens/s, {prompt} tokens");
        Print($"decode, one prompt           {decodeOne:F1} tokens/s");
        Print($"decode, {together} prompts at once   {decodeMany:F1} tokens/s, {decodeMany / decodeOne:F1} x");
        Print($"peak private memory          {memory.Peak / 1e9:F2} GB");

        double Time(int rows, int count)
        {
            long start = Stopwatch.GetTimestamp();
            lm.Generate(prompts[..rows], new GenerationOptions { MaximumNewTokens = count, BatchSize = rows });
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
    }

    private static void Print(FormattableString line) => Console.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}
