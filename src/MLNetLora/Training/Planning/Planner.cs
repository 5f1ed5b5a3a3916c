using MLNetLora.Adapters;
using MLNetLora.Artifacts;
using MLNetLora.Models;
using MLNetLora.Quantization;
using MLNetLora.Runtime;

namespace MLNetLora.Training.Planning;

/// <summary>
/// Says what a run would take: trains a few of its micro-batches on two parts of the model with few layers, and extrapolates to all of them. Every layer costs
/// as much as the next of its kind, so that two points are a line.
/// </summary>
/// <param name="probe">Measures one part, in a process of its own.</param>
/// <param name="progress">Told what is measured, before it is.</param>
internal sealed class Planner(Func<ProbeRequest, CancellationToken, ProbeFigures> probe, Action<string>? progress = null)
{
    // The runtime takes memory in pieces, each twice as large as the one before, up to 1 GB: together 2 GB. What lies beyond may begin another of 1 GB although
    // there is room in the others. Measured with Qwen3.5 of 0.75B: 2.20 GB with 20 layers, 3.43 with 24, and 2.60 where pieces are as large as is asked.
    private const double Pieces = 1.8e9;

    private static readonly Depth s_asked = new(Strata: 4, Share: 2, Rounds: 2, MostSeconds: 40);
    private static readonly Depth s_other = new(Strata: 1, Share: 3, Rounds: 0, MostSeconds: 8); // compared with it

    // What later micro-batches take of the time of the first: measured for the run as asked, taken over to others.
    private double _laterShare = 1;

    /// <summary>A model with no more numbers in its layers is measured whole.</summary>
    internal long Small { get; init; } = LayerPattern.Small;

    /// <summary>The plan of a run as asked.</summary>
    /// <exception cref="OptionException">An option makes no sense.</exception>
    public RunPlan Plan(PlannedRun run, CancellationToken cancellation = default)
    {
        RequireProcessor(run.Training);
        return Plan(run, new Dictionary<string, object>(), s_asked, "as asked", cancellation);
    }

    /// <summary>The plans of the same run with options that take less memory or less time, those that make sense for it.</summary>
    public IEnumerable<RunPlan> Alternatives(PlannedRun run, CancellationToken cancellation = default)
    {
        IReadOnlyDictionary<string, object>[] sets = [.. PlanAlternatives.Of(run)];
        foreach ((int i, IReadOnlyDictionary<string, object> changes) in sets.Index())
        {
            string name = FormattableString.Invariant($"{PlanAlternatives.Name(changes)} ({i + 1} of {sets.Length} others)");
            PlannedRun other = run.With(options => PlanAlternatives.Apply(options, changes));
            yield return Plan(other, changes, s_other, name, cancellation);
        }
    }

    /// <summary>Refuses GPUs, whose memory is not the process's.</summary>
    private static void RequireProcessor(TrainingOptions options)
    {
        if (options.Device is not null && options.Device != Device.Cpu)
        {
            throw new OptionException($"{nameof(options.Device)} is {options.Device}; a plan is made for the processor alone. A run that cannot fit on a GPU "
                + "is refused before its first step.");
        }
    }

    private RunPlan Plan(PlannedRun run, IReadOnlyDictionary<string, object> changes, Depth depth, string name,
        CancellationToken cancellation)
    {
        (RunShape shape, ProbeRequest request) = Request(run, depth.Strata, depth.Rounds);
        LayerPattern pattern = LayerPattern.Of(run.Checkpoint.Config, run.Target(run.Checkpoint).Trainables, depth.Share,
            count => run.Target(run.Checkpoint.FirstLayers(count)).Trainables, Small);
        int layers = run.Checkpoint.Config.NumHiddenLayers;
        List<ProbeFigures> figures = [];
        try
        {
            foreach (int count in pattern.Counts)
            {
                progress?.Invoke($"{name}: {count} of {layers} layers");
                figures.Add(probe(request with { Layers = count }, cancellation));
            }
        }
        catch (ProbeException e)
        {
            return new RunPlan { Changes = changes, AvailableBytes = MachineMemory.Available, Failure = e.Message };
        }

        _laterShare = depth.Rounds > 0 ? figures[^1].LaterShare : _laterShare;
        figures = [.. figures.Select(part => part.Settled(_laterShare))];
        ProbeFigures all = figures.Count == 1 ? figures[0] : ProbeFigures.Extrapolate(figures[0], figures[1], layers);
        ProbeFigures? whole = figures.Count == 1 ? null : Whole(request with { Layers = layers, Batches = shape.Largest }, all, depth, name, cancellation);
        return RunPlan.Of(run, shape, whole is null ? all : all.Corrected(whole), changes, MachineMemory.Available) with
        {
            ProbedLayers = whole is null ? pattern.Counts : [.. pattern.Counts, layers],
        };
    }

    /// <summary>The largest micro-batch on all of the model, where memory is no line, it fits and it does not take long; else null.</summary>
    private ProbeFigures? Whole(ProbeRequest request, ProbeFigures all, Depth depth, string name, CancellationToken cancellation)
    {
        if (all.TrainingBytes - all.StartBytes < Pieces || all.PeakBytes > MachineMemory.Available / 2)
        {
            return null;
        }

        // The one with most labels comes behind the one with most tokens, and is left out where both take too long.
        int affordable = Math.Min(request.Batches.Count, (int)(depth.MostSeconds / (2 * all.BatchSeconds.Max())));
        if (affordable == 0)
        {
            return null;
        }

        try
        {
            progress?.Invoke($"{name}: all {all.Layers} layers");
            // Twice: the second one finds the memory that the first has left in pieces.
            return probe(request with { Batches = [.. request.Batches.Take(affordable)], Validation = [], Rounds = 1 }, cancellation);
        }
        catch (ProbeException)
        {
            return null; // what was extrapolated is better than nothing
        }
    }

    /// <summary>What a probe of a run is asked for, but for the number of layers.</summary>
    /// <param name="run">The run.</param>
    /// <param name="strata">Into how many groups its micro-batches are put.</param>
    /// <param name="rounds">How often each is timed.</param>
    internal static (RunShape Shape, ProbeRequest Request) Request(PlannedRun run, int strata, int rounds)
    {
        RunShape shape = RunShape.Of(
            run.Checkpoint.Config, run.Target(run.Checkpoint).MaximumLossChunks, run.Rows, run.Validation, run.Training, strata);
        return (shape, new ProbeRequest
        {
            Model = run.Checkpoint.Folder,
            Layers = 0,
            Lora = run.Lora,
            HasInitial = run.HasInitial,
            Training = run.Training,
            Plan = shape.Plan,
            Longest = shape.Longest,
            First = shape.First,
            Batches = shape.Batches,
            Validation = shape.Validation,
            Rounds = rounds,
        });
    }

    /// <summary>How closely a run is looked at.</summary>
    /// <param name="Strata">Groups of micro-batches.</param>
    /// <param name="Share">The larger part of the model has one layer of so many.</param>
    /// <param name="Rounds">How often each micro-batch is timed.</param>
    /// <param name="MostSeconds">How long a measurement of the whole model may take.</param>
    private sealed record Depth(int Strata, int Share, int Rounds, double MostSeconds);
}
