using System.Diagnostics;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Bench;

/// <summary>What checkpoints cost: one run that writes one after every second step, the times after a step with one beside those after a step
/// without.</summary>
internal static class CheckpointBench
{
    /// <summary>Measures and prints.</summary>
    /// <param name="setting">What to train; its steps are pairs.</param>
    public static void Run(TrainingSetting setting)
    {
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(setting.Model));
        LoraOptions lora = new() { Rank = setting.Rank, Dropout = setting.Dropout, TargetModules = setting.Targets };
        TrainingOptions options = new()
        {
            BatchSize = 1,
            GradientAccumulationSteps = setting.Batch,
            MaximumSteps = (2 * setting.Steps) + 1,
            SaveSteps = 2,
            SaveTotalLimit = 2,
            Threads = setting.Threads,
            Optimizer = setting.Optimizer,
            Precision = setting.Precision,
        };
        Random random = new(1);
        TrainingRow[] rows = [.. Enumerable.Range(0, setting.Batch).Select(_ => Row(random, setting.Length, checkpoint.Config.VocabSize))];
        string folder = Directory.CreateTempSubdirectory("mlnetlora-bench-").FullName;
        try
        {
            using RunFolder run = RunFolder.Open(folder, "folder");
            RunIdentity identity = new(s_none, s_none, s_none, s_none, RowsMark.Of(rows), RowsMark.Of([]));
            Stopwatch watch = Stopwatch.StartNew();
            List<TimeSpan> ends = [];
            LoraTraining.Train(checkpoint, lora, rows, options, progress: _ => ends.Add(watch.Elapsed), checkpoints: new RunCheckpoints(run, identity, null));
            double[] gaps = [.. ends.Zip(ends.Skip(1), (from, to) => (to - from).TotalSeconds)]; // the first is after step 1, which has no checkpoint
            double without = Median(gaps.Where((_, i) => i % 2 == 0));
            double with = Median(gaps.Where((_, i) => i % 2 == 1));
            long bytes = Directory.EnumerateFiles(RunFolder.Checkpoints(folder).First().Folder).Sum(file => new FileInfo(file).Length);
            Console.WriteLine($"model                        {setting.Model}, rank {setting.Rank} on {setting.Targets}, "
                + $"{setting.Batch} x {setting.Length} tokens a step");
            Console.WriteLine($"checkpoint                   {bytes / 1e6:F1} MB");
            Console.WriteLine($"step                         {without:F2} s without, {with:F2} s with one, medians of {setting.Steps}");
            Console.WriteLine($"with one after every step    {with / without:F3} of the time");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static readonly Dictionary<string, string> s_none = [];

    private static double Median(IEnumerable<double> values) => values.Order().ToArray() is { Length: > 0 } sorted ? sorted[sorted.Length / 2] : double.NaN;

    private static TrainingRow Row(Random random, int length, int vocabulary)
    {
        int[] ids = [.. Enumerable.Range(0, length).Select(_ => random.Next(vocabulary))];
        return new TrainingRow(ids, [.. ids.Select((id, i) => i < length / 2 ? TrainingRow.Ignore : id)]);
    }
}
