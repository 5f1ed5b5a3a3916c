using System.Globalization;
using MLNetLora.Quantization;

namespace MLNetLora.Training.Planning;

/// <summary>Which other options a plan looks at.</summary>
internal static class PlanAlternatives
{
    /// <summary>The sets of changes that make sense for a run: by the names of options, their values.</summary>
    public static IEnumerable<IReadOnlyDictionary<string, object>> Of(PlannedRun run)
    {
        const string Checkpointing = nameof(TrainingOptions.ActivationCheckpointing);
        const string Batch = nameof(TrainingOptions.BatchSize);
        const string Accumulation = nameof(TrainingOptions.GradientAccumulationSteps);
        const string Precision = nameof(TrainingOptions.Precision);
        TrainingOptions options = run.Training;
        int rows = (int)Math.Min(int.MaxValue, (long)options.BatchSize * options.GradientAccumulationSteps);
        Dictionary<string, object> single = new() { [Batch] = 1, [Accumulation] = rows };
        Dictionary<string, object>[] sets =
        [
            new() { [Checkpointing] = true },
            single,
            new(single) { [Checkpointing] = true },
            new() { [Precision] = WeightPrecision.Int8 },
            new() { [Precision] = WeightPrecision.Nf4Double },
            new() { [nameof(TrainingOptions.PrepackWeights)] = true },
        ];
        return sets.Where(changes => (options.BatchSize > 1 || !changes.ContainsKey(Batch))
            && changes.Any(change => !Equals(Value(options, change.Key), change.Value))
            && (options.Precision == WeightPrecision.Checkpoint || !changes.ContainsKey(Precision))
            && IsAllowed(run.With(other => Apply(other, changes))));
    }

    /// <summary>Sets options.</summary>
    public static void Apply(TrainingOptions options, IReadOnlyDictionary<string, object> changes)
    {
        foreach ((string name, object value) in changes)
        {
            typeof(TrainingOptions).GetProperty(name)!.SetValue(options, value);
        }
    }

    /// <summary>How a set is called: "BatchSize 1, GradientAccumulationSteps 16".</summary>
    public static string Name(IReadOnlyDictionary<string, object> changes) => changes.Count == 0 ? "as asked"
        : string.Join(", ", changes.Select(change => string.Create(CultureInfo.InvariantCulture, $"{change.Key} {change.Value}")));

    /// <summary>The quickest plan that fits, a plan that reads its weights again after all others; null where none fits.</summary>
    public static RunPlan? Quickest(IEnumerable<RunPlan> plans) =>
        plans.Where(plan => plan.Fit != MemoryFit.DoesNotFit).OrderBy(plan => plan.Fit).ThenBy(plan => plan.TotalSeconds).FirstOrDefault();

    private static object? Value(TrainingOptions options, string name) => typeof(TrainingOptions).GetProperty(name)!.GetValue(options);

    private static bool IsAllowed(PlannedRun run)
    {
        bool isFull = run.Lora is null;
        if (isFull && (run.Training.Precision != WeightPrecision.Checkpoint || run.Training.PrepackWeights))
        {
            return false;
        }

        try
        {
            run.Training.Validate();
            Prepacking.RequireWhole(run.Checkpoint, run.Training);
            return !(run.Checkpoint.IsFourBit && run.Training.Precision is not (WeightPrecision.Checkpoint or WeightPrecision.Int8));
        }
        catch (OptionException)
        {
            return false;
        }
    }
}
