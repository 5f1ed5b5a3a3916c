using Microsoft.ML.Runtime;
using MLNetLora.Checkpoints;

namespace MLNetLora.TextGeneration;

/// <summary>The folder of a model that a program names, downloaded where it may be and has to be. What takes longer than a moment is told in the log.</summary>
internal static class ModelDownload
{
    /// <summary>Finds or downloads a model.</summary>
    /// <param name="model">A folder or a hub id.</param>
    /// <param name="mayDownload">Whether it may be downloaded.</param>
    /// <param name="channel">Where it is told.</param>
    /// <param name="cancellation">Ends the download.</param>
    /// <exception cref="CheckpointException">There is no such folder, or no such model in the cache.</exception>
    /// <exception cref="HubException">It cannot be downloaded.</exception>
    public static string Folder(string model, bool mayDownload, IChannel channel, CancellationToken cancellation)
    {
        Log log = new(model, message => channel.Info(MessageSensitivity.UserData, message), TimeProvider.System);
        return mayDownload
            ? Task.Run(() => ModelFolder.FindOrDownloadAsync(model, null, log, cancellation), CancellationToken.None).GetAwaiter().GetResult()
            : ModelFolder.Find(model);
    }

    /// <summary>Tells sentences at once, and how far it is after two seconds and then every ten.</summary>
    internal sealed class Log(string model, Action<string> tell, TimeProvider time) : IProgress<HubProgress>
    {
        private static readonly TimeSpan s_first = TimeSpan.FromSeconds(2);
        private static readonly TimeSpan s_period = TimeSpan.FromSeconds(10);

        private readonly long _start = time.GetTimestamp();
        private readonly Lock _lock = new();
        private TimeSpan _next = s_first;

        public void Report(HubProgress value)
        {
            lock (_lock)
            {
                TimeSpan elapsed = time.GetElapsedTime(_start);
                if (value.Message is { } message)
                {
                    tell(message);
                }
                else if (elapsed >= _next)
                {
                    _next = elapsed + s_period;
                    tell(Line(model, value));
                }
            }
        }
    }

    /// <summary>How far a download is, in words.</summary>
    internal static string Line(string model, HubProgress progress)
    {
        double share = progress.TotalBytes == 0 ? 0 : 100.0 * progress.Bytes / progress.TotalBytes;
        string left = progress.Remaining is { } time ? $", {QwenLoraTrainer.Clock(time)} left" : "";
        return FormattableString.Invariant($"Downloading {model}: {progress.Bytes / 1e6:F0} of {progress.TotalBytes / 1e6:F0} MB ({share:F0} %), ")
            + FormattableString.Invariant($"{progress.BytesPerSecond / 1e6:F1} MB/s{left}.");
    }
}
