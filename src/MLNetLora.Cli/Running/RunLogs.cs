using System.Text.RegularExpressions;
using MLNetLora.Cli.Configuration;
using MLNetLora.Cli.Output;
using MLNetLora.Reports;
using MLNetLora.Training;

namespace MLNetLora.Cli.Running;

/// <summary>What a training writes about itself: metrics.jsonl, events for TensorBoard, a page, a picture.</summary>
internal static partial class RunLogs
{
    public const string MetricsName = "metrics.jsonl";
    public const string EventsFolder = "runs";
    public const string PictureName = "loss.png";

    /// <summary>The logs that follow a run into its folder, beside its page.</summary>
    public static IEnumerable<TrainingCallback> In(string output) =>
        [new JsonLinesLog(Path.Combine(output, MetricsName)), new TensorBoardLog(Path.Combine(output, EventsFolder))];

    /// <summary>Refuses a folder in which a log would not find its place, before a model is opened.</summary>
    /// <exception cref="ConfigException">The message says which, and why.</exception>
    public static void Require(string output)
    {
        if (File.Exists(Path.Combine(output, EventsFolder)))
        {
            throw new ConfigException($"{Path.Combine(output, EventsFolder)} is a file, where a folder for TensorBoard's events is to be. "
                + "Remove it, or give another --output.");
        }

        foreach (string name in (string[])[MetricsName, PictureName, RunReport.FileName, TrainerStateFile.FileName])
        {
            string path = Path.Combine(output, name);
            if (Directory.Exists(path))
            {
                throw new ConfigException($"{path} is a folder, where a file is to be written. Remove it, or give another --output.");
            }

            try
            {
                if (File.Exists(path))
                {
                    File.Open(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite | FileShare.Delete).Dispose();
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new ConfigException($"{path} cannot be written to: {e.Message} Remove it, or give another --output.", e);
            }
        }

        RequireRoom(output, ""); // whose lock a run that was killed may have left: it opens where no other file can be made
        RequireRoom(Path.Combine(output, EventsFolder), "Remove it, or ");
    }

    /// <summary>Removes what a run that was killed has left half-written of logs and results, whose names are those of files that are written whole.</summary>
    /// <param name="output">The folder, which no run has.</param>
    public static void RemoveUnfinished(string output)
    {
        foreach (string path in Directory.EnumerateFiles(output, "*.tmp").Where(path => Unfinished().IsMatch(Path.GetFileName(path))))
        {
            try
            {
                File.Delete(path);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It takes room, and nothing reads it.
            }
        }
    }

    [GeneratedRegex(@"^(run\.html|metrics\.jsonl|loss\.png|trainer_state\.json|model\.zip|adapter_(config\.json|model\.safetensors))\.[0-9a-f]{32}\.tmp$")]
    private static partial Regex Unfinished();

    private static void RequireRoom(string folder, string remedy)
    {
        if (!Directory.Exists(folder))
        {
            return;
        }

        string probe = Path.Combine(folder, $".{Guid.NewGuid():N}");
        try
        {
            new FileStream(probe, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1, FileOptions.DeleteOnClose).Dispose();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new ConfigException($"{folder} cannot be written to: {e.Message} {(remedy.Length > 0 ? remedy + "give" : "Give")} another --output.", e);
        }
    }

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
