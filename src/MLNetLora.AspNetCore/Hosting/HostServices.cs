using Microsoft.Extensions.Logging;

namespace MLNetLora.AspNetCore;

/// <summary>What everything that loads models needs.</summary>
/// <param name="registry">Where they are published.</param>
/// <param name="state">Told what is not as it should be.</param>
/// <param name="metrics">Counts.</param>
/// <param name="models">The bases, whose names no adapter may have.</param>
/// <param name="time">The clock.</param>
/// <param name="logs">Where it is logged.</param>
internal sealed class HostServices(
    ModelRegistry registry,
    ServingState state,
    ServingMetrics metrics,
    IEnumerable<RegisteredModel> models,
    TimeProvider time,
    ILoggerFactory logs) : IDisposable
{
    public ModelRegistry Registry => registry;

    public ServingState State => state;

    public ServingMetrics Metrics => metrics;

    /// <summary>The names of the bases.</summary>
    public IReadOnlyList<string> BaseNames { get; } = [.. models.Select(model => model.Name)];

    public TimeProvider Time => time;

    public ILogger Log { get; } = logs.CreateLogger(ServingLog.Category);

    /// <summary>Had by who changes which adapters are served, so that no two take one name.</summary>
    public SemaphoreSlim Turn { get; } = new(1);

    /// <inheritdoc/>
    public void Dispose() => Turn.Dispose();
}
