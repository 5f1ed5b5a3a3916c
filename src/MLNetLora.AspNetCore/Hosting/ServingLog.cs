using Microsoft.Extensions.Logging;

namespace MLNetLora.AspNetCore;

/// <summary>What the service logs. Prompts and answers only in <see cref="Content"/>, which <see cref="ServingOptions.LogContent"/> asks for.</summary>
internal static partial class ServingLog
{
    /// <summary>The category of all of it.</summary>
    public const string Category = "MLNetLora.Serving";

    [LoggerMessage(1, LogLevel.Information, "{RequestId}: {Operation} {Model} answered {Status} ({Reasons}): {PromptTokens} prompt tokens "
        + "({CachedTokens} cached), {NewTokens} new ones, {Milliseconds} ms, the first after {FirstMilliseconds} ms.")]
    public static partial void Ended(
        ILogger log, string requestId, string operation, string model, int status, string reasons, int promptTokens, int cachedTokens, int newTokens,
        double milliseconds, double firstMilliseconds);

    [LoggerMessage(2, LogLevel.Information, "{RequestId}: {What}: {Text}")]
    public static partial void Content(ILogger log, string requestId, string what, string text);

    [LoggerMessage(3, LogLevel.Error, "{RequestId}: failed.")]
    public static partial void Failed(ILogger log, Exception exception, string requestId);

    [LoggerMessage(4, LogLevel.Information, "{RequestId}: refused with {Status} ({Code}).")]
    public static partial void Refused(ILogger log, string requestId, int status, string code);
}
