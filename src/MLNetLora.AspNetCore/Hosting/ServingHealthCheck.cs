using Microsoft.Extensions.Diagnostics.HealthChecks;

namespace MLNetLora.AspNetCore;

/// <summary>Whether the service takes requests.</summary>
internal sealed class ServingHealthCheck(ServingState state, RequestGate gate) : IHealthCheck
{
    /// <inheritdoc/>
    public Task<HealthCheckResult> CheckHealthAsync(HealthCheckContext context, CancellationToken cancellationToken = default)
    {
        IReadOnlyList<ServingIssue> issues = state.Issues;
        Dictionary<string, object> reasons = issues.ToDictionary(issue => issue.Component, issue => (object)issue.Reason);
        if (state.Phase != ServingPhase.Open)
        {
            reasons["service"] = "it was told to end";
        }

        if (gate.IsFull)
        {
            reasons["queue"] = "it is full";
        }

        bool isReady = state.Phase == ServingPhase.Open && !gate.IsFull && !issues.Any(issue => issue.IsMissing);
        return Task.FromResult((isReady, issues.Count) switch
        {
            (false, _) => new HealthCheckResult(context.Registration.FailureStatus, data: reasons),
            (_, 0) => HealthCheckResult.Healthy(),
            _ => HealthCheckResult.Degraded(data: reasons),
        });
    }
}
