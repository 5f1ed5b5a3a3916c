using System.Diagnostics;
using System.Globalization;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Inference;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Bench;

/// <summary>How long calls take to come back after their token was cancelled: loading, long prompts, answers, training.</summary>
internal static class CancellationBench
{
    private const int Prompt = 6000;
    private const int Rows = 4;
    private const int Length = 512;

    /// <summary>Measures and prints.</summary>
    /// <param name="model">Checkpoint folder.</param>
    /// <param name="delays">Seconds after which the calls are cancelled.</param>
    /// <param name="trainingOnly">Leaves generation out.</param>
    public static void Run(string model, double[] delays, bool trainingOnly)
    {
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(model));
        Random random = new(1);
        int[] Ids(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(checkpoint.Config.VocabSize))];
        Console.WriteLine($"{model}: milliseconds from the cancellation to the end of the call, cancelled after {string.Join(", ", delays)} s");
        foreach (WeightPrecision precision in trainingOnly ? [] : Enum.GetValues<WeightPrecision>())
        {
            Measure($"load, {precision}", delays, token =>
            {
                using CausalLanguageModel loaded = new(checkpoint, precision: precision, cancellation: token);
            });
            using CausalLanguageModel lm = new(checkpoint, precision: precision);
            int[] prompt = Ids(Prompt);
            int[][] prompts = [.. Enumerable.Range(0, 8).Select(_ => Ids(256))];
            GenerationOptions options = new() { MaximumNewTokens = 1000, Temperature = 0 };
            Measure($"prompt of {Prompt}, {precision}", delays, token => lm.Generate([prompt], options, cancellation: token));
            Measure($"8 answers, {precision}", delays, token => lm.Generate(prompts, options, cancellation: token));
        }

        TrainingRow[] rows = [.. Enumerable.Range(0, Rows).Select(_ => Ids(Length)).Select(ids => new TrainingRow(ids, ids))];
        LoraOptions lora = new() { Rank = 64 };
        foreach (WeightPrecision precision in (WeightPrecision[])[WeightPrecision.Checkpoint, WeightPrecision.Int8])
        {
            TrainingOptions options = new() { BatchSize = Rows, Precision = precision, NumberOfEpochs = 100, GradientAccumulationSteps = 1 };
            Measure($"training {Rows} x {Length}, {precision}", delays, token => LoraTraining.Train(checkpoint, lora, rows, options, cancellation: token));
        }
    }

    private static void Measure(string what, double[] delays, Action<CancellationToken> call)
    {
        List<string> figures = [];
        foreach (double delay in delays)
        {
            using CancellationTokenSource source = new();
            long ended = 0;
            Thread thread = new(() =>
            {
                try
                {
                    call(source.Token);
                }
                catch (OperationCanceledException)
                {
                    // What was asked for.
                }

                ended = Stopwatch.GetTimestamp();
            });
            thread.Start();
            if (thread.Join(TimeSpan.FromSeconds(delay)))
            {
                figures.Add("done");
                continue;
            }

            long begun = Stopwatch.GetTimestamp();
            source.Cancel();
            thread.Join();
            figures.Add(Stopwatch.GetElapsedTime(begun, ended).TotalMilliseconds.ToString("F0", CultureInfo.InvariantCulture));
        }

        Console.WriteLine($"{what,-32} {string.Join("  ", figures.Select(figure => figure.PadLeft(6)))}");
    }
}
