using System.Diagnostics;
using System.Globalization;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Bench;

/// <summary>LoRA training steps on a checkpoint folder: time from process start to the first step, tokens/s beside the floor of the same matrix products, peak private memory.</summary>
internal static class TrainingBench
{
    public static void Run(string model, int batch, int length, double labelled, int rank, string[] targets, double dropout, bool checkpointing, int steps, int threads)
    {
        DateTime started = Process.GetCurrentProcess().StartTime;
        using PeakMemory memory = new();
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(model));
        LoraOptions lora = new() { Rank = rank, Alpha = 16, Dropout = dropout, TargetModules = targets };
        TrainingTarget target = TrainingTarget.Lora(checkpoint, lora);
        TrainingOptions options = new() { ActivationCheckpointing = checkpointing, Threads = threads };
        Random random = new(0);
        TrainingRow[] rows = [.. Enumerable.Range(0, batch).Select(_ =>
        {
            int[] ids = [.. Enumerable.Range(0, length).Select(_ => random.Next(checkpoint.Config.VocabSize))];
            return new TrainingRow(ids, [.. ids.Select((id, i) => i < length * (1 - labelled) ? TrainingRow.Ignore : id)]);
        })];
        ChunkPlan plan = TrainingLoop.Plan(checkpoint.Config, [.. rows.Select(row => new[] { row })], [], new TrainingOptions { BatchSize = batch });
        Batch data = Batch.Of(rows, plan.Attention);
        List<double> seconds = [];
        double first;
        float loss = 0;
        double ready;
        using (TrainingSession session = new(target, options, plan))
        {
            ready = (DateTime.Now - started).TotalSeconds;
            LoraParameters.Load(session.Parameters, LoraAdapter.Create(lora, checkpoint, 1));
            Step();
            first = (DateTime.Now - started).TotalSeconds;
            for (int i = 0; i < steps; i++)
            {
                seconds.Add(Step());
            }

            double Step()
            {
                long begun = Stopwatch.GetTimestamp();
                loss = session.Accumulate(data, data.LabelIds.Length);
                session.Step(1e-4);
                return Stopwatch.GetElapsedTime(begun).TotalSeconds;
            }
        }

        long peak = memory.Peak;
        int labels = (data.LabelIds.Length + plan.Loss - 1) / plan.Loss;
        long queries = data.Length / plan.Attention;
        Dictionary<string, long> sizes = new()
        {
            ["batch"] = batch,
            ["sequence"] = data.Length,
            ["tokens"] = batch * data.Length,
            ["labels"] = labels * plan.Loss,
            ["chunk"] = labels,
            ["query_chunk"] = queries,
            ["group_rows"] = queries * checkpoint.Config.NumAttentionHeads / checkpoint.Config.NumKeyValueHeads,
        };
        for (int i = 0; i < plan.Attention; i++)
        {
            sizes[$"seen_{i}"] = (i + 1) * queries;
        }

        (double floor, double flops) = GemmFloor.Measure(target, checkpointing, plan, sizes, threads, steps);
        double best = seconds.Min();
        double median = seconds.Order().ElementAt(seconds.Count / 2);
        Print($"model                        {checkpoint.Folder}");
        Print($"batch x length               {batch} x {length}, {data.LabelIds.Length} labels, rank {rank} on {string.Join(", ", targets)}, dropout {dropout}{(checkpointing ? ", recomputed" : "")}");
        Print($"start to first step          {first:F1} s, of which {ready:F1} s until the sessions stand");
        Print($"step                         {best:F3} s best, {median:F3} s median of {seconds.Count}");
        Print($"training                     {batch * length / best:F1} tokens/s best, {batch * length / median:F1} median, {flops / best / 1e9:F0} GFLOP/s");
        Print($"floor (same GEMMs alone)     {floor:F3} s, {batch * length / floor:F1} tokens/s, {flops / floor / 1e9:F0} GFLOP/s");
        Print($"share of the floor           {floor / best:F2}");
        Print($"peak private memory          {peak / 1e9:F2} GB");
        Print($"loss                         {loss:F4}");
    }

    private static void Print(FormattableString line) => Console.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}
