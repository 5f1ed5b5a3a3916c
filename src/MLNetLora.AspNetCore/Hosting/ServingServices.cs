using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace MLNetLora.AspNetCore;

/// <summary>What every way of serving needs, once.</summary>
internal static class ServingServices
{
    /// <summary>Registers it where it is not there yet.</summary>
    public static void Add(IServiceCollection services)
    {
        services.AddLogging();
        services.AddMetrics();
        services.AddOptions<ServingOptions>();
        services.TryAddSingleton(TimeProvider.System);
        services.TryAddSingleton<ModelRegistry>();
        services.TryAddSingleton<ApiKeys>();
        services.TryAddSingleton<ServingState>();
        services.TryAddSingleton<RequestGate>();
        services.TryAddSingleton<ServingMetrics>();
        services.TryAddSingleton<ServingEndpoint>();
    }
}
