using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;

namespace MLNetLora.AspNetCore;

/// <summary>What every way of serving needs, once.</summary>
internal static class ServingServices
{
    private const string HealthCheckName = "mlnetlora";

    /// <summary>Registers it where it is not there yet.</summary>
    public static void Add(IServiceCollection services)
    {
        if (services.Any(service => service.ServiceType == typeof(ServingState)))
        {
            return;
        }

        services.AddLogging();
        services.AddMetrics();
        services.AddRouting();
        services.AddOptions<ServingOptions>().ValidateOnStart();
        services.AddSingleton<IValidateOptions<ServingOptions>, ServingOptionsCheck>();
        services.AddSingleton<IPostConfigureOptions<HostOptions>, ShutdownTime>();
        services.TryAddSingleton(TimeProvider.System);
        services.AddSingleton<ModelRegistry>();
        services.AddSingleton<ApiKeys>();
        services.AddSingleton<ServingState>();
        services.AddSingleton<RequestGate>();
        services.AddSingleton<BodyMemory>();
        services.AddSingleton<ServingMetrics>();
        services.AddSingleton<ServingEndpoint>();
        services.AddSingleton<HostServices>();
        services.AddSingleton<ServingHost>();
        services.AddHostedService(provider => provider.GetRequiredService<ServingHost>());
        services.AddHealthChecks().AddCheck<ServingHealthCheck>(HealthCheckName, tags: [HealthEndpoints.ReadyTag]);
    }

    /// <summary>A service of ours.</summary>
    /// <exception cref="InvalidOperationException">Nothing was registered.</exception>
    public static T Require<T>(IServiceProvider provider)
        where T : class =>
        provider.GetService<T>() ?? throw new InvalidOperationException("No model was registered: call AddMLNetLora, or AddMLNetLoraModelFile, before Build.");

    /// <summary>The host waits as long as the service may need to end.</summary>
    private sealed class ShutdownTime(IOptions<ServingOptions> serving) : IPostConfigureOptions<HostOptions>
    {
        private static readonly TimeSpan s_rest = TimeSpan.FromSeconds(5);

        public void PostConfigure(string? name, HostOptions options)
        {
            TimeSpan needed = serving.Value.DrainDelay + serving.Value.DrainTimeout + s_rest;
            if (options.ShutdownTimeout < needed)
            {
                options.ShutdownTimeout = needed;
            }
        }
    }
}
