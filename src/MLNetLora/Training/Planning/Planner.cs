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
    private const int Strata = 4; // groups of micro-batches of the run as asked
    private const int FewStrata = 2; // of others, which are compared with it
    private const int Half = 2; // of the layers are measured of the run as asked
    private const int Third = 3; // of others

    /// <summary>The plan of a run as asked.</summary>
    /// <exception cref="OptionException">An option makes no sense.</exception>
    public RunPlan Plan(PlannedRun run, CancellationToken cancellation = default)
    {
        RequireProcessor(run.Training);
        return Plan(run, new Dictionary<string, object>(), (Strata, Half, Rounds: 2), "as asked", cancellation);
    }

    /// <summary>The plans of the same run with options that take less memory or less time, those that make sense for it.</summary>
    public IEnumerable<RunPlan> Alternatives(PlannedRun run, CancellationToken cancellation = default)
    {
        foreach (IReadOnlyDictionary<string, object> changes in PlanAlternatives.Of(run))
        {
            PlannedRun other = run.With(options => PlanAlternatives.Apply(options, changes));
            yield return Plan(other, changes, (FewStrata, Third, Rounds: 1), PlanAlternatives.Name(changes), cancellation);
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

    private RunPlan Plan(PlannedRun run, IReadOnlyDictionary<string, object> changes, (int Strata, int Share, int Rounds) depth, string name,
        CancellationToken cancellation)
    {
        (RunShape shape, ProbeRequest request) = Request(run, depth.Strata, depth.Rounds);
        LayerPattern pattern = LayerPattern.Of(run.Checkpoint.Config, run.Target(run.Checkpoint).Trainables, depth.Share,
            layers => run.Target(run.Checkpoint.FirstLayers(layers)).Trainables);
        List<ProbeFigures> figures = [];
        foreach (int layers in pattern.Counts)
        {
            progress?.Invoke($"{name}: {layers} of {run.Checkpoint.Config.NumHiddenLayers} layers");
            try
            {
                figures.Add(probe(request with { Layers = layers }, cancellation));
            }
            catch (ProbeException e)
            {
                return new RunPlan { Changes = changes, AvailableBytes = MachineMemory.Available, Failure = e.Message };
            }
        }

        ProbeFigures all = figures.Count == 1 ? figures[0] : ProbeFigures.Extrapolate(figures[0], figures[1], run.Checkpoint.Config.NumHiddenLayers);
        return RunPlan.Of(run, shape, all, changes, MachineMemory.Available) with { ProbedLayers = pattern.Counts };
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
            Batches = [.. shape.Strata.Select(stratum => stratum.Batch), .. shape.Largest],
            Validation = shape.Validation,
            Rounds = rounds,
        });
    }
}
