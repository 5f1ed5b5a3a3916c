using Microsoft.Extensions.Logging;

namespace MLNetLora.AspNetCore;

/// <summary>What is logged of models, adapters and the service's end.</summary>
internal static partial class HostLog
{
    [LoggerMessage(20, LogLevel.Information, "Model {Model}: loading {Path}.")]
    public static partial void Loading(ILogger log, string model, string path);

    [LoggerMessage(21, LogLevel.Information, "Model {Model}: {Progress}")]
    public static partial void Progress(ILogger log, string model, string progress);

    [LoggerMessage(22, LogLevel.Information, "Model {Model}: ready after {Seconds} s.")]
    public static partial void Ready(ILogger log, string model, double seconds);

    [LoggerMessage(23, LogLevel.Critical, "Model {Model} cannot be served; the application ends.")]
    public static partial void LoadFailed(ILogger log, Exception exception, string model);

    [LoggerMessage(24, LogLevel.Information, "Adapter {Adapter} of {Model}: loaded from {Folder}. It takes up to {Bytes} of memory besides what it shares.")]
    public static partial void Loaded(ILogger log, string adapter, string model, string folder, string bytes);

    [LoggerMessage(25, LogLevel.Information, "Adapter {Adapter} of {Model}: unloaded.")]
    public static partial void Unloaded(ILogger log, string adapter, string model);

    [LoggerMessage(26, LogLevel.Warning, "Adapter {Adapter}: {Warning}")]
    public static partial void AdapterWarning(ILogger log, string adapter, string warning);

    [LoggerMessage(27, LogLevel.Warning, "Adapter {Adapter} in {Folder}: {Reason}")]
    public static partial void AdapterRefused(ILogger log, string adapter, string folder, string reason);

    [LoggerMessage(28, LogLevel.Warning, "Watched folder {Folder}: {Reason}")]
    public static partial void FolderFailed(ILogger log, string folder, string reason);

    [LoggerMessage(29, LogLevel.Information, "Told to end: not ready any more; requests are taken for {Seconds} s.")]
    public static partial void Leaving(ILogger log, double seconds);

    [LoggerMessage(30, LogLevel.Information, "No new requests are taken; {Count} are under way.")]
    public static partial void Draining(ILogger log, int count);

    [LoggerMessage(31, LogLevel.Warning, "{Count} requests were not answered in time, and end with an error.")]
    public static partial void Cancelled(ILogger log, int count);

    [LoggerMessage(32, LogLevel.Warning, "There are no API keys: everybody is answered who reaches the port.")]
    public static partial void NoKeys(ILogger log);

    [LoggerMessage(37, LogLevel.Information, "{Name}: {Count} are in {File}, and count from now on.")]
    public static partial void KeysRead(ILogger log, string name, int count, string file);

    [LoggerMessage(38, LogLevel.Error, "{Name}: {Reason}")]
    public static partial void KeysFailed(ILogger log, string name, string reason);

    [LoggerMessage(39, LogLevel.Information, "Loading {Number} of {Count}: {Component}. They are loaded one after another, so that none takes memory "
        + "that another counts on.")]
    public static partial void LoadingOne(ILogger log, int number, int count, string component);

    [LoggerMessage(40, LogLevel.Information, "{Component}: {Step}; {Seconds} s so far.")]
    public static partial void StillLoading(ILogger log, string component, string step, string seconds);

    [LoggerMessage(36, LogLevel.Warning, "Adapter {Adapter} of {Model} gets weights of its own, which take memory once more: {Reason}")]
    public static partial void NotShared(ILogger log, string adapter, string model, string reason);

    [LoggerMessage(34, LogLevel.Information, "Model file {Path}: loaded.")]
    public static partial void FileLoaded(ILogger log, string path);

    [LoggerMessage(35, LogLevel.Warning, "Model file {Path} is refused, and the one that was loaded before answers on: {Reason}")]
    public static partial void FileRefused(ILogger log, string path, string reason);

    [LoggerMessage(33, LogLevel.Error, "The watched folder {Folder} could not be looked at.")]
    public static partial void WatchFailed(ILogger log, Exception exception, string folder);
}
