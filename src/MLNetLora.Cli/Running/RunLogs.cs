using MLNetLora.Cli.Output;
using MLNetLora.Reports;
using MLNetLora.Training;

namespace MLNetLora.Cli.Running;

/// <summary>What a training writes about itself: metrics.jsonl, events for TensorBoard, a page, a picture.</summary>
internal static class RunLogs
{
    public const string MetricsName = "metrics.jsonl";
    public const string EventsFolder = "runs";
    public const string PictureName = "loss.png";

    /// <summary>The logs that follow a run into its folder.</summary>
    public static IEnumerable<TrainingCallback> In(string output) =>
        [new JsonLinesLog(Path.Combine(output, MetricsName)), new TensorBoardLog(Path.Combine(output, EventsFolder)), new RunReport(output)];

    /// <summary>Draws the loss. What was learned is saved already, and a machine that cannot draw is no reason to fail.</summary>
    public static void Draw(Screen screen, string output, TrainingSummary summary)
    {
        try
        {
            LossPicture.Save(Path.Combine(output, PictureName), summary.Steps);
        }
        catch (Exception e) when (e is MLNetLoraException or IOException or DllNotFoundException or TypeInitializationException or ArgumentException)
        {
            screen.WriteWarning($"{PictureName} could not be drawn: {e.Message}");
        }
    }
}
