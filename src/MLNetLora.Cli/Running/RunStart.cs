using MLNetLora.Cli.Output;
using MLNetLora.Training;

namespace MLNetLora.Cli.Running;

/// <summary>Says at the start what will be trained, on what, and for how long.</summary>
/// <param name="screen">What the output may have.</param>
/// <param name="output">Where it is said.</param>
internal sealed class RunStart(Screen screen, TextWriter output) : TrainingCallback
{
    /// <inheritdoc/>
    public override void OnTrainBegin(TrainingStart start)
    {
        screen.HasBegun = true;
        double share = 100.0 * start.TrainableParameters / start.AllParameters;
        Line("model", start.ModelPath);
        Line("trained", FormattableString.Invariant($"{start.TrainableParameters:N0} of {start.AllParameters:N0} parameters ({share:0.##}%)"));
        Line("rows", FormattableString.Invariant($"{start.Rows:N0}{(start.ValidationRows > 0 ? $", and {start.ValidationRows:N0} for validation" : "")}"));
        Line("tokens", FormattableString.Invariant($"{start.Tokens:N0}, {start.LabelTokens:N0} of them learned"));
        Line("steps", FormattableString.Invariant($"{start.TotalSteps:N0}{Position(start)}"));
        Line("device", start.Device);
        Line("seed", FormattableString.Invariant($"{start.Seed}"));
        output.WriteLine();
    }

    private static FormattableString Position(TrainingStart start) =>
        start.FirstStep > start.TotalSteps ? $"; the run has all its steps"
        : start.FirstStep > 1 ? (FormattableString)$", from step {start.FirstStep:N0}"
        : $"";

    private void Line(string name, string value) => output.WriteLine($"{screen.Dim($"{name,-10}")}{Visible.OnOneLine(value)}");
}

/// <summary>A plain line of progress every so many steps, as logging_steps asks for it, for outputs that are no terminal.</summary>
internal sealed class EverySteps(TextWriter writer, int every) : TrainingCallback
{
    /// <inheritdoc/>
    public override void OnStep(TrainingProgress progress)
    {
        if (progress.Step % every == 0 || progress.Step == progress.TotalSteps)
        {
            writer.WriteLine(ProgressLine.Format(progress));
        }

        if (progress.ValidationLoss is { } loss)
        {
            writer.WriteLine(FormattableString.Invariant($"step {progress.Step}/{progress.TotalSteps}  validation loss {loss:F4}"));
        }
    }
}
