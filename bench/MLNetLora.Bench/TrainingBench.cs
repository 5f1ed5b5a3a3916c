using System.Diagnostics;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;

namespace MLNetLora.Bench;

/// <summary>What to train.</summary>
/// <param name="Model">Checkpoint folder.</param>
/// <param name="Batch">Rows per step; with data, packed sequences.</param>
/// <param name="Length">Tokens per row; with data, tokens per packed sequence.</param>
/// <param name="Labelled">Share of random tokens that have a label.</param>
/// <param name="Rank">LoRA rank.</param>
/// <param name="Targets">Adapted layers.</param>
/// <param name="Dropout">LoRA dropout.</param>
/// <param name="Checkpointing">Recompute activations.</param>
/// <param name="Steps">Steps after the first.</param>
/// <param name="Threads">Threads; 0 takes all cores.</param>
/// <param name="Data">Data files to pack and train on; none for random tokens.</param>
/// <param name="Tokenizer">Folder with the tokenizer's files, for data.</param>
internal sealed record TrainingSetting(string Model, int Batch, int Length, double Labelled, int Rank, TargetModules Targets, double Dropout,
    bool Checkpointing, int Steps, int Threads, string[] Data, string? Tokenizer)
{
    /// <summary>Numbers of the products with frozen weights; the floor is always that of float32.</summary>
    public WeightPrecision Precision { get; init; }

    /// <summary>Frozen weights are laid out for the processor at the start.</summary>
    public bool Prepack { get; init; }

    /// <summary>What makes the steps.</summary>
    public OptimizerKind Optimizer { get; init; }

    /// <summary>Where.</summary>
    public Device Device { get; init; } = Device.Cpu;

    /// <summary>In what; null for the device's default.</summary>
    public ComputeType? ComputeType { get; init; }

    /// <summary>What the device can do, for the share of it; 0 for none.</summary>
    public double PeakTflops { get; init; }
}

/// <summary>What was measured.</summary>
/// <param name="Ready">Seconds from the start of the process until the first step began.</param>
/// <param name="First">Seconds from the start of the process to the end of the first optimizer step.</param>
/// <param name="Best">Seconds of the fastest step after it.</param>
/// <param name="Median">Seconds of the median step.</param>
/// <param name="TokensPerSecond">Tokens that are not padding, fastest step.</param>
/// <param name="Floor">Seconds of the step's matrix products alone; 0 where not asked for.</param>
/// <param name="Flops">Floating-point operations of those.</param>
/// <param name="PeakBytes">Highest private memory.</param>
/// <param name="PeakWithMapped">Highest sum of private memory and mapped pages of files.</param>
/// <param name="Labels">Labelled tokens of the last step.</param>
/// <param name="Loss">Loss of the last step.</param>
/// <param name="OptimizerSeconds">Of a median step, those of the optimizer.</param>
/// <param name="StateBytes">What the optimizer remembers.</param>
/// <param name="FlopsPerToken">Operations of the model's matrices per token, forward and for the gradient of their input; without attention's products, those
/// of adapters and what is recomputed: what a model's share of a device (MFU) is counted with.</param>
internal sealed record TrainingFigures(double Ready, double First, double Best, double Median, double TokensPerSecond, double Floor, double Flops,
    long PeakBytes, long PeakWithMapped, int Labels, double Loss, double OptimizerSeconds, long StateBytes, double FlopsPerToken);

/// <summary>LoRA training steps on a checkpoint folder: time from process start to the first step, tokens/s beside the floor of the same matrix
/// products, peak private memory.</summary>
internal static class TrainingBench
{
    /// <summary>Measures and prints, for people or as one line of JSON.</summary>
    /// <param name="setting">What to train.</param>
    /// <param name="others">Optimizers that are measured after it on the same checkpoint, for a row each.</param>
    /// <param name="floor">Whether the matrix products are run alone, too.</param>
    /// <param name="profile">Whether the most expensive operators are listed.</param>
    /// <param name="json">One line of JSON.</param>
    public static void Run(TrainingSetting setting, OptimizerKind[] others, bool floor, bool profile, bool json)
    {
        // The products of experts run as often as the router decides, so that a mixture has no floor.
        floor &= setting.Device == Device.Cpu && QwenConfig.Read(ModelFolder.Find(setting.Model)).Experts is null;
        TrainingFigures f = Measure(setting, floor);
        if (json)
        {
            Console.WriteLine(JsonSerializer.Serialize(f));
            return;
        }

        string graphs = setting.Device is CudaDevice { Graphs: true } ? " with graphs" : "";
        Console.WriteLine($"model                        {setting.Model}{(setting.Device == Device.Cpu ? "" : $" on {setting.Device}{graphs}")}");
        Console.WriteLine($"batch x length               {setting.Batch} x {setting.Length}, {f.Labels} labels, rank {setting.Rank} on "
            + $"{setting.Targets}, dropout "
            + $"{setting.Dropout}{(setting.Checkpointing ? ", recomputed" : "")}{(setting.Prepack ? ", prepacked" : "")}, {setting.Precision}");
        Console.WriteLine($"start                        {f.Ready:F1} s until the first step begins, {f.First:F1} s until it is done");
        Console.WriteLine($"step                         {f.Best:F3} s best, {f.Median:F3} s median of {setting.Steps}");
        Console.WriteLine($"training                     {f.TokensPerSecond:F1} tokens/s best, {f.TokensPerSecond * f.Best / f.Median:F1} median");
        if (floor)
        {
            Console.WriteLine(
                $"floor (same GEMMs alone)     {f.Floor:F3} s, {f.TokensPerSecond * f.Best / f.Floor:F1} tokens/s, {f.Flops / f.Floor / 1e9:F0} GFLOP/s");
            Console.WriteLine($"share of the floor           {f.Floor / f.Best:F2}");
        }

        if (setting.PeakTflops > 0)
        {
            double reached = f.FlopsPerToken * f.TokensPerSecond * f.Best / f.Median / 1e12;
            Console.WriteLine($"of the device (MFU)          {reached:F1} of {setting.PeakTflops:G4} TFLOP/s, {reached / setting.PeakTflops:P0}");
        }

        Console.WriteLine($"peak private memory          {f.PeakBytes / 1e9:F2} GB, {f.PeakWithMapped / 1e9:F2} GB with mapped files");
        Console.WriteLine($"loss                         {f.Loss:F4}");
        foreach (OptimizerKind kind in (OptimizerKind[])[setting.Optimizer, .. others])
        {
            TrainingFigures o = kind == setting.Optimizer ? f : Measure(setting with { Optimizer = kind }, floor: false);
            string share = o.StateBytes == 0 ? "" : FormattableString.Invariant($" ({(double)f.StateBytes / o.StateBytes:F2} to 1)");
            Console.WriteLine($"{kind,-28} {o.StateBytes / 1e6:F1} MB of states{share}, "
                + $"{o.OptimizerSeconds:F3} s of a step of {o.Median:F3} s, loss {o.Loss:F4}");
        }

        if (profile)
        {
            ProfileTable.Of(() => Measure(setting with { Steps = 1 }, floor: false), "training_model", lastRun: true).Print("training step");
        }
    }

    private static TrainingFigures Measure(TrainingSetting setting, bool floor)
    {
        DateTime started = Process.GetCurrentProcess().StartTime;
        using PeakMemory memory = new();
        Checkpoint checkpoint = Checkpoint.Open(ModelFolder.Find(setting.Model));
        LoraOptions lora = new() { Rank = setting.Rank, Alpha = 16, Dropout = setting.Dropout, TargetModules = setting.Targets };
        TrainingTarget target = TrainingTarget.Lora(checkpoint, lora);
        TrainingOptions options = new()
        {
            ActivationCheckpointing = setting.Checkpointing,
            Precision = setting.Precision,
            PrepackWeights = setting.Prepack,
            Optimizer = setting.Optimizer,
            Threads = setting.Threads,
            Device = setting.Device,
            ComputeType = setting.ComputeType,
            BatchSize = setting.Batch,
            PackingLength = setting.Data.Length > 0 ? setting.Length : 0,
        };
        IReadOnlyList<TrainingRow[]> sequences = Packing.Sequences(
            setting.Data.Length > 0 ? RealRows(setting) : RandomRows(setting, checkpoint.Config.VocabSize), options);
        ChunkPlan plan = TrainingLoop.Plan(checkpoint.Config, sequences, [], options);
        Batch[] batches = [.. sequences.Chunk(setting.Batch).Take(setting.Steps + 1).Select(rows => Batch.Of(rows, plan.Attention))];
        List<(double Seconds, int Tokens)> steps = [];
        List<double> optimizer = [];
        long states;
        float loss = 0;
        Batch data = batches[0];
        double ready;
        using (TrainingSession session = new(Calibration.Prepare(target, options, plan, sequences), options, plan))
        {
            LoraParameters.Load(session.Parameters, LoraAdapter.Create(lora, checkpoint, 1));
            ready = (DateTime.Now - started).TotalSeconds;
            for (int i = 0; i <= setting.Steps; i++)
            {
                data = batches[i % batches.Length];
                long begun = Stopwatch.GetTimestamp();
                loss = session.Accumulate(data, data.LabelIds.Length, i);
                long accumulated = Stopwatch.GetTimestamp();
                session.Step(1e-4, i + 1);
                optimizer.Add(Stopwatch.GetElapsedTime(accumulated).TotalSeconds);
                steps.Add((Stopwatch.GetElapsedTime(begun).TotalSeconds, data.Tokens));
                memory.SampleMapped();
            }

            states = session.Parameters.States.Sum(state => state.Bytes);
        }

        (long peak, long mapped) = (memory.Peak, memory.PeakWithMapped);
        (double seconds, double flops) = floor
            ? GemmFloor.Measure(target, setting.Checkpointing, plan, Sizes(data, plan, checkpoint), setting.Threads, setting.Prepack,
                Math.Max(1, setting.Steps))
            : (0, 0);
        (double Seconds, int Tokens)[] warm = [.. steps.Skip(setting.Steps > 0 ? 1 : 0).OrderBy(step => step.Seconds / step.Tokens)];
        return new TrainingFigures(ready, ready + steps[0].Seconds, warm[0].Seconds, warm[warm.Length / 2].Seconds, warm[0].Tokens / warm[0].Seconds, seconds,
            flops, peak, mapped, data.LabelIds.Length, loss, optimizer.Skip(setting.Steps > 0 ? 1 : 0).Order().ElementAt(setting.Steps / 2), states,
            FlopsPerToken(checkpoint, data));
    }

    private static double FlopsPerToken(Checkpoint checkpoint, Batch data)
    {
        const double ForwardAndBack = 4; // a product and a sum each, for the output and for the gradient of the input
        double linears = checkpoint.Architecture.Linears(checkpoint.Config).Sum(module => (double)module.In * module.Out);
        double head = (double)checkpoint.Config.HiddenSize * checkpoint.Config.VocabSize * data.LabelIds.Length / data.Tokens;
        return ForwardAndBack * (linears + head);
    }

    private static TrainingRow[] RandomRows(TrainingSetting setting, int vocabulary)
    {
        Random random = new(0);
        return [.. Enumerable.Range(0, setting.Batch).Select(_ =>
        {
            int[] ids = [.. Enumerable.Range(0, setting.Length).Select(_ => random.Next(vocabulary))];
            return new TrainingRow(ids, [.. ids.Select((id, i) => i < setting.Length * (1 - setting.Labelled) ? TrainingRow.Ignore : id)]);
        })];
    }

    private static TrainingRow[] RealRows(TrainingSetting setting)
    {
        string folder = setting.Tokenizer ?? setting.Model;
        ConversationFormatter formatter = new(QwenTokenizer.Load(folder), ChatTemplate.Load(folder));
        return [.. formatter.TokenizeRows(Dataset.Read(setting.Data), LabelScope.Answer, setting.Length).Select(row => row.Row)];
    }

    /// <summary>Sizes of the symbols in the training graph.</summary>
    private static Dictionary<string, long> Sizes(Batch data, ChunkPlan plan, Checkpoint checkpoint)
    {
        int labels = (data.LabelIds.Length + plan.Loss - 1) / plan.Loss;
        long queries = data.Length / plan.Attention;
        Dictionary<string, long> sizes = new()
        {
            ["batch"] = data.Rows,
            ["sequence"] = data.Length,
            ["tokens"] = data.Rows * data.Length,
            ["labels"] = labels * plan.Loss,
            ["chunk"] = labels,
            ["query_chunk"] = queries,
            ["group_rows"] = queries * checkpoint.Config.NumAttentionHeads / checkpoint.Config.NumKeyValueHeads,
        };
        foreach (int? window in checkpoint.Config.SlidingWindows.Distinct())
        {
            string name = window is null ? "first_keys" : "sliding_first_keys";
            long[] firsts = GraphInputs.FirstKeys(data, data.Segments is null ? 1 : data.Rows, window ?? int.MaxValue);
            for (int i = 0; i < plan.Attention; i++)
            {
                long start = firsts.Where((_, at) => at % data.Length / queries == i).Min();
                sizes[$"{name}_visible_{i}"] = ((i + 1) * queries) - start;
            }
        }

        return sizes;
    }
}
