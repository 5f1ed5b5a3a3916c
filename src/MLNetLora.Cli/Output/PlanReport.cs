using System.Text.Json;
using System.Text.Json.Nodes;
using MLNetLora.Runtime;
using MLNetLora.Training.Planning;

namespace MLNetLora.Cli.Output;

/// <summary>A plan for people, and as JSON.</summary>
/// <param name="Model">The base, as it was asked for.</param>
/// <param name="Layers">How many layers it has.</param>
/// <param name="Asked">The plan of the run as asked.</param>
internal sealed record PlanReport(string Model, int Layers, RunPlan Asked)
{
    /// <summary>Plans with other options; null where none were made.</summary>
    public IReadOnlyList<RunPlan>? Others { get; init; }

    /// <summary>The quickest plan that fits; null where none does.</summary>
    private RunPlan? Quickest => PlanAlternatives.Quickest([Asked, .. Others ?? []]);

    /// <summary>Writes what the run as asked takes.</summary>
    public void WriteAsked(Screen screen)
    {
        if (Asked.Failure is { } failure)
        {
            screen.WriteWarning($"The run as asked could not be measured: {failure}");
            return;
        }

        Line("model", FormattableString.Invariant($"{Model}, {Asked.TrainedParameters:N0} trained parameters"));
        Line("memory", $"{Gigabytes(Asked.PeakBytes)} of its own, and {Gigabytes(Asked.WeightBytes)} of weights in files; the machine has "
            + $"{Gigabytes(Asked.AvailableBytes)}: {Fit(Asked)}");
        Line("start", Time(Asked.StartSeconds));
        Line("steps", FormattableString.Invariant($"{Asked.Steps:N0} of {Asked.StepSeconds:G3} s, {Asked.TokensPerSecond:F0} tokens/s"));
        if (Asked.EvaluationSeconds > 0)
        {
            Line("evaluation", Time(Asked.EvaluationSeconds));
        }

        Line("in all", Time(Asked.TotalSeconds));
        Line("measured", $"{Listed(Asked.ProbedLayers)} of {Layers} layers");

        void Line(string name, string value) => screen.Out.WriteLine($"{screen.Dim($"{name,-12}")}{value}");
    }

    /// <summary>3, 12 and 24.</summary>
    internal static string Listed(IReadOnlyList<int> numbers) => numbers.Count < 2 ? string.Concat(numbers)
        : $"{string.Join(", ", numbers.SkipLast(1))} and {numbers[^1]}";

    /// <summary>Writes what other options take, and which are to be preferred.</summary>
    public void WriteOthers(Screen screen)
    {
        if (Others is null)
        {
            return;
        }

        screen.Out.WriteLine();
        screen.WriteTable(["options", "memory", "weights in files", "step", "in all", "fits"], ((RunPlan[])[Asked, .. Others]).Select(plan =>
            (IReadOnlyList<string>)(plan.Failure is { } failure ? [PlanAlternatives.Name(plan.Changes), "", "", "", "", failure]
            : [
                PlanAlternatives.Name(plan.Changes), Gigabytes(plan.PeakBytes), Gigabytes(plan.WeightBytes),
                FormattableString.Invariant($"{plan.StepSeconds:G3} s"), Time(plan.TotalSeconds), Fit(plan),
            ])));
        screen.Out.WriteLine(Advice);
    }

    /// <summary>All of it, bytes and seconds as numbers.</summary>
    public JsonObject ToJson() => new()
    {
        ["model"] = Model,
        ["layers"] = Layers,
        ["asked"] = Json(Asked),
        ["others"] = new JsonArray([.. (Others ?? []).Select(Json)]),
        ["quickest"] = Quickest is { } quickest ? Changes(quickest) : null,
        ["advice"] = Advice,
    };

    /// <summary>Which options to take.</summary>
    private string Advice => Quickest is not { } quickest
        ? "None of these fits. Take a smaller model, shorter rows (MaximumSequenceLength) or fewer trained parameters (Rank, TargetModules)."
        : quickest.Changes.Count == 0
            ? $"The options as asked are the quickest of those that fit: {Time(quickest.TotalSeconds)} with {Gigabytes(quickest.PeakBytes)}."
            : $"The quickest that fits: {PlanAlternatives.Name(quickest.Changes)}, {Time(quickest.TotalSeconds)} with {Gigabytes(quickest.PeakBytes)}.";

    private static JsonObject Json(RunPlan plan) => new()
    {
        ["changes"] = Changes(plan),
        ["fit"] = JsonNamingPolicy.SnakeCaseLower.ConvertName(plan.Fit.ToString()),
        ["failure"] = plan.Failure,
        ["peak_bytes"] = Math.Round(plan.PeakBytes),
        ["weight_bytes"] = Math.Round(plan.WeightBytes),
        ["available_bytes"] = plan.AvailableBytes,
        ["trained_parameters"] = plan.TrainedParameters,
        ["start_seconds"] = Math.Round(plan.StartSeconds, 3),
        ["steps"] = plan.Steps,
        ["step_seconds"] = Math.Round(plan.StepSeconds, 6),
        ["evaluation_seconds"] = Math.Round(plan.EvaluationSeconds, 3),
        ["total_seconds"] = Math.Round(plan.TotalSeconds, 3),
        ["tokens"] = plan.Tokens,
        ["tokens_per_second"] = Math.Round(plan.TokensPerSecond, 1),
        ["probed_layers"] = new JsonArray([.. plan.ProbedLayers.Select(layers => JsonValue.Create(layers))]),
    };

    private static JsonObject Changes(RunPlan plan)
    {
        JsonObject changes = [];
        foreach ((string name, object value) in plan.Changes)
        {
            changes[name] = value switch
            {
                bool flag => JsonValue.Create(flag),
                int number => JsonValue.Create(number),
                _ => JsonValue.Create(value.ToString()),
            };
        }

        return changes;
    }

    private static string Fit(RunPlan plan) => plan.Fit switch
    {
        MemoryFit.Fits => "fits",
        MemoryFit.ReadsWeightsAgain => "fits, but weights are read from the disk again and again",
        _ => "does not fit",
    };

    private static string Gigabytes(double bytes) => MachineMemory.Gigabytes((long)bytes);

    private static string Time(double seconds) => seconds < 60
        ? FormattableString.Invariant($"{seconds:F1} s")
        : FormattableString.Invariant($"{(int)(seconds / 3600)}:{(int)(seconds / 60) % 60:D2}:{(int)seconds % 60:D2} h");
}
