using System.Diagnostics;
using System.Text.Json;
using MLNetLora.Adapters;
using MLNetLora.Checkpoints;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;
using MLNetLora.Text;
using MLNetLora.Training;
using MLNetLora.Training.Planning;

namespace MLNetLora.Bench;

/// <summary>A run to plan and to make.</summary>
/// <param name="Name">What its row is called.</param>
/// <param name="Batch">Rows per micro-batch.</param>
/// <param name="Accumulation">Micro-batches per step.</param>
/// <param name="Shortest">Tokens of the shortest row.</param>
/// <param name="Longest">Tokens of the longest; lengths between are drawn.</param>
/// <param name="Lora">The adapter.</param>
internal sealed record PlanSetting(string Name, int Batch, int Accumulation, int Shortest, int Longest, LoraOptions Lora)
{
    /// <summary>The option sets of the table.</summary>
    public static IReadOnlyList<PlanSetting> All { get; } =
    [
        new("defaults", 1, 2, 512, 512, new LoraOptions()),
        new("recomputed", 4, 1, 64, 256, new LoraOptions { Rank = 16, TargetModules = "all-linear" }) { Checkpointing = true },
        new("int8", 2, 2, 128, 384, new LoraOptions { Rank = 32 }) { Precision = WeightPrecision.Int8 },
        new("nf4", 2, 1, 256, 256, new LoraOptions { Rank = 16, UseDora = true }) { Precision = WeightPrecision.Nf4Double },
        new("evaluated", 4, 1, 32, 512, new LoraOptions { Rank = 8, TargetModules = "all-linear" }) { ValidationRows = 8 },
        new("long", 1, 1, 1536, 1536, new LoraOptions()) { Checkpointing = true },
    ];

    public bool Checkpointing { get; init; }

    public WeightPrecision Precision { get; init; }

    public int ValidationRows { get; init; }

    /// <summary>Optimizer steps that are planned and made.</summary>
    public int Steps { get; init; } = 4;

    public TrainingOptions Options => new()
    {
        BatchSize = Batch,
        GradientAccumulationSteps = Accumulation,
        ActivationCheckpointing = Checkpointing,
        Precision = Precision,
        MaximumSteps = Steps,
    };

    /// <summary>Random rows, half of each labelled.</summary>
    public TrainingRow[] Rows(int count, int seed, int vocabulary)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ =>
        {
            int length = random.Next(Shortest, Longest + 1);
            int[] ids = [.. Enumerable.Range(0, length).Select(_ => random.Next(vocabulary))];
            return new TrainingRow(ids, [.. ids.Select((id, i) => i < length / 2 ? TrainingRow.Ignore : id)]);
        })];
    }
}

/// <summary>What a run took, or was said to take.</summary>
internal sealed record PlanFigures(double PeakBytes, double StartSeconds, double StepSeconds, double TotalSeconds);

/// <summary>Plans beside what runs then take.</summary>
internal static class PlanBench
{
    /// <summary>Plans and makes runs, each in processes of its own, and prints a row for each.</summary>
    /// <param name="models">Checkpoint folders.</param>
    /// <param name="settings">Names of settings; none for all.</param>
    /// <param name="steps">Optimizer steps of each run.</param>
    public static void Run(string[] models, string[] settings, int steps)
    {
        Console.WriteLine("model  layers  options  memory planned, taken (GB), ratio  time planned, taken (s), ratio  step, ratio  start, ratio");
        foreach (string model in models)
        {
            foreach (PlanSetting setting in PlanSetting.All.Where(setting => settings.Length == 0 || settings.Contains(setting.Name)))
            {
                string[] arguments = ["--model", model, "--set", setting.Name, "--steps", $"{steps}"];
                JsonElement plan = ChildProcess.Json(ChildProcess.Self, ["plan-one", .. arguments]);
                PlanFigures planned = plan.Deserialize<PlanFigures>()!;
                PlanFigures taken = ChildProcess.Json(ChildProcess.Self, ["plan-run", .. arguments]).Deserialize<PlanFigures>()!;
                Console.WriteLine($"{Path.GetFileName(model),-12} {setting.Name,-10} {planned.PeakBytes / 1e9:F2} {taken.PeakBytes / 1e9:F2} "
                    + $"{planned.PeakBytes / taken.PeakBytes:F3}   "
                    + $"{planned.TotalSeconds:F1} {taken.TotalSeconds:F1} {planned.TotalSeconds / taken.TotalSeconds:F2}   "
                    + $"{planned.StepSeconds:F2} {taken.StepSeconds:F2} {planned.StepSeconds / taken.StepSeconds:F2}   "
                    + $"{planned.StartSeconds:F1} {taken.StartSeconds:F1} {planned.StartSeconds / taken.StartSeconds:F2}");
            }
        }
    }

    /// <summary>Plans one run, in this process; its probes have their own.</summary>
    public static void Plan(string model, string name, int steps)
    {
        (Checkpoint checkpoint, PlanSetting setting) = (Checkpoint.Open(ModelFolder.Find(model)), Find(name, steps));
        PlannedRun run = new(checkpoint, setting.Lora, setting.Options, TrainingRows(setting, checkpoint), ValidationRows(setting, checkpoint))
        {
            BytesBefore = PeakMemory.Now(),
            SecondsBefore = 0, // a run starts the runtime as a probe does, and has nothing to read
        };
        ProbeProcess probes = new([.. ChildProcess.Self, "plan-probe"]);
        RunPlan plan = new Planner(probes.Measure).Plan(run);
        Console.WriteLine(JsonSerializer.Serialize(plan.Failure is null
            ? new PlanFigures(plan.PeakBytes, plan.StartSeconds, plan.StepSeconds, plan.TotalSeconds)
            : throw new InvalidOperationException(plan.Failure)));
    }

    /// <summary>Measures parts of a model, each in a process of its own, and prints what each takes: whether the line through two of them holds.</summary>
    public static void Parts(string model, string[] settings, int[] layers)
    {
        Console.WriteLine("layers  start, training (GB)  start, warmup, micro-batches, optimizer (s)");
        foreach (string name in settings)
        {
            (Checkpoint checkpoint, PlanSetting setting) = (Checkpoint.Open(ModelFolder.Find(model)), Find(name, 2));
            PlannedRun run = new(checkpoint, setting.Lora, setting.Options, TrainingRows(setting, checkpoint), ValidationRows(setting, checkpoint));
            ProbeRequest request = Planner.Request(run, strata: 4, rounds: 2).Request;
            foreach (int count in layers)
            {
                ProbeFigures figures = new ProbeProcess([.. ChildProcess.Self, "plan-probe"]).Measure(request with { Layers = count });
                Console.WriteLine($"{name,-10} {figures.Layers,3}   {figures.StartBytes / 1e9:F3} {figures.TrainingBytes / 1e9:F3}   {figures.StartSeconds:F2} "
                    + $"{figures.WarmupSeconds:F2} {string.Join(' ', figures.BatchSeconds.Select(seconds => $"{seconds:F3}"))} {figures.OptimizerSeconds:F3}");
            }
        }
    }

    /// <summary>Makes one run.</summary>
    public static void Make(string model, string name, int steps)
    {
        using PeakMemory memory = new();
        (Checkpoint checkpoint, PlanSetting setting) = (Checkpoint.Open(ModelFolder.Find(model)), Find(name, steps));
        (_, TrainingSummary summary) = LoraTraining.Train(
            checkpoint, setting.Lora, TrainingRows(setting, checkpoint), setting.Options, ValidationRows(setting, checkpoint));
        double total = (DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds;
        double stepping = summary.Steps.Sum(step => step.Tokens / step.TokensPerSecond);
        Console.WriteLine(JsonSerializer.Serialize(
            new PlanFigures(memory.Peak, total - summary.Duration.TotalSeconds, stepping / summary.Steps.Count, total)));
    }

    /// <summary>Answers one request for a probe.</summary>
    public static void Probe() => Console.WriteLine(RunProbe.Measure(ProbeRequest.Parse(Console.In.ReadLine()!)).ToJson());

    private static TrainingRow[] TrainingRows(PlanSetting setting, Checkpoint checkpoint) =>
        setting.Rows(setting.Batch * setting.Accumulation * setting.Steps, seed: 1, checkpoint.Config.VocabSize);

    private static TrainingRow[] ValidationRows(PlanSetting setting, Checkpoint checkpoint) =>
        setting.Rows(setting.ValidationRows, seed: 2, checkpoint.Config.VocabSize);

    private static PlanSetting Find(string name, int steps) => PlanSetting.All.First(setting => setting.Name == name) with { Steps = steps };
}
