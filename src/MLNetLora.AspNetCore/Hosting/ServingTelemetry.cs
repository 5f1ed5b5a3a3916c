namespace MLNetLora.AspNetCore;

/// <summary>Under which names the service measures and traces, for OpenTelemetry's AddMeter and AddSource.</summary>
public static class ServingTelemetry
{
    /// <summary>The meter: gen_ai.server.* and gen_ai.client.token.usage as OpenTelemetry names them, and mlnetlora.*.</summary>
    public const string MeterName = ServingMetrics.Name;

    /// <summary>The source of traces: an activity for each request that is answered, without what was asked.</summary>
    public const string ActivitySourceName = ServingMetrics.Name;
}
