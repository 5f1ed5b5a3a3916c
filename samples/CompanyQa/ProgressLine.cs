using System.Globalization;
using MLNetLora.Training;

namespace CompanyQa;

/// <summary>One line that is written over in a terminal; elsewhere a line for every tenth of the run.</summary>
internal static class ProgressLine
{
    public static void Show(TrainingProgress step)
    {
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"step {step.Step}/{step.TotalSteps}  loss {step.Loss:F4}  {step.TokensPerSecond:N0} tokens/s  "
            + $"{(int)step.Remaining.TotalMinutes}:{step.Remaining.Seconds:D2} left");
        if (!Console.IsOutputRedirected)
        {
            Console.Write($"\r{line}   {(step.Step == step.TotalSteps ? Environment.NewLine : "")}");
        }
        else if (step.Step == 1 || step.Step * 10 / step.TotalSteps > (step.Step - 1) * 10 / step.TotalSteps)
        {
            Console.WriteLine(line);
        }
    }
}
