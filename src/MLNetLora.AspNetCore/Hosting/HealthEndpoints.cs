using System.Text.Json;
using Microsoft.AspNetCore.Diagnostics.HealthChecks;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using MLNetLora.AspNetCore;

namespace Microsoft.AspNetCore.Builder;

/// <summary>Health, for who starts, stops and balances replicas.</summary>
public static class HealthEndpoints
{
    /// <summary>The tag of health checks that /health/ready asks; an application may give it to checks of its own.</summary>
    public const string ReadyTag = "ready";

    /// <summary>
    /// Maps GET /health/live: 200 as long as requests are answered at all, and GET /health/ready: 200 where models are loaded, and 503 while they are being
    /// loaded, while the queue is full, and from the moment on when the service was told to end. The body says why. Where an adapter was refused and the
    /// service answers, it is 200 and "degraded". Neither needs a key.
    /// </summary>
    /// <param name="endpoints">The application.</param>
    /// <param name="prefix">What stands before live and ready.</param>
    public static IEndpointRouteBuilder MapMLNetLoraHealth(this IEndpointRouteBuilder endpoints, string prefix = "/health")
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        ServingServices.Require<ServingState>(endpoints.ServiceProvider);
        endpoints.MapHealthChecks($"{prefix}/live", new HealthCheckOptions { Predicate = _ => false, ResponseWriter = WriteAsync }).AllowAnonymous();
        endpoints.MapHealthChecks($"{prefix}/ready", new HealthCheckOptions
        {
            Predicate = check => check.Tags.Contains(ReadyTag),
            ResponseWriter = WriteAsync,
        }).AllowAnonymous();
        return endpoints;
    }

    private static Task WriteAsync(HttpContext context, HealthReport report)
    {
        Dictionary<string, object> reasons = [];
        foreach ((string name, HealthReportEntry entry) in report.Entries.Where(entry => entry.Value.Status != HealthStatus.Healthy))
        {
            if (entry.Data.Count == 0)
            {
                reasons[name] = entry.Description ?? entry.Status.ToString();
            }

            foreach ((string component, object reason) in entry.Data)
            {
                reasons[component] = reason;
            }
        }

        string status = report.Status switch
        {
            HealthStatus.Healthy => "ok",
            HealthStatus.Degraded => "degraded",
            _ => "unavailable",
        };
        context.Response.ContentType = "application/json; charset=utf-8";
        return context.Response.WriteAsync(JsonSerializer.Serialize(new { status, reasons }), context.RequestAborted);
    }
}
