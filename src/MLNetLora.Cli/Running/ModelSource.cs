using MLNetLora.Checkpoints;
using MLNetLora.Cli.Output;

namespace MLNetLora.Cli.Running;

/// <summary>The folder of a model that a user named: one that is there, or one that is downloaded, which is shown.</summary>
internal static class ModelSource
{
    /// <summary>Finds it.</summary>
    /// <param name="screen">Shows how far a download is, and may end it.</param>
    /// <param name="model">A folder, or a hub id.</param>
    /// <param name="downloads">Whether an id that the cache does not hold is downloaded; HF_HUB_OFFLINE forbids it, too.</param>
    /// <returns>The folder, in full.</returns>
    public static string Folder(Screen screen, string model, bool downloads)
    {
        if (!downloads)
        {
            return ModelFolder.Find(model);
        }

        DownloadLine line = new(screen);
        try
        {
            return ModelFolder.FindOrDownloadAsync(model, null, line, screen.Interruption.Token).GetAwaiter().GetResult();
        }
        finally
        {
            line.End();
        }
    }
}
