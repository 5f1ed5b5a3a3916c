namespace MLNetLora.AspNetCore;

/// <summary>How the service answers over HTTP: keys, limits, the end. One set for all models of a process; the section MLNetLora of a configuration.</summary>
public sealed class ServingOptions
{
    /// <summary>Keys of which a request has to send one, as "Authorization: Bearer KEY"; none (default) lets everybody ask who reaches the port.</summary>
    public IList<string> ApiKeys { get; } = [];

    /// <summary>A file with more such keys, one a line, # before comments; it is looked at every five seconds, and what two looks saw counts. One that is
    /// emptied takes its keys away; while it is gone or cannot be read, those count that were there, and the log and /health/ready say so. Null (default) for
    /// none.</summary>
    public string? ApiKeyFile { get; set; }

    /// <summary>Keys that may load and unload adapters; without one those endpoints are not there. They are no API keys.</summary>
    public IList<string> AdminKeys { get; } = [];

    /// <summary>A file with more such keys, as <see cref="ApiKeyFile"/>. Null (default) for none.</summary>
    public string? AdminKeyFile { get; set; }

    /// <summary>Whether requests with different API keys share nothing of what is kept of prompts (<see cref="ServedModelOptions.PrefixCacheBytes"/>), so that
    /// nobody learns from the time of an answer what others have asked. Default true. Where all keys are of one owner, false computes common beginnings
    /// once.</summary>
    public bool PrefixCachePerKey { get; set; } = true;

    /// <summary>Most requests that are answered at once; at least 1. Default 32.</summary>
    public int MaximumConcurrentRequests { get; set; } = 32;

    /// <summary>Most requests that wait for their turn, first in, first out; more are answered with 429. One whose body is still on its way does not count.
    /// Default 128.</summary>
    public int MaximumQueuedRequests { get; set; } = 128;

    /// <summary>How long a request waits for its turn before it is answered with 429. Default 30 seconds.</summary>
    public TimeSpan QueueTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>How long a request may take from its arrival to the end of its answer; then it is answered with 504, or its stream ends with an error.
    /// Default 5 minutes.</summary>
    public TimeSpan RequestTimeout { get; set; } = TimeSpan.FromMinutes(5);

    /// <summary>Most bytes of a request's body; more is answered with 413. Default 4 MiB.</summary>
    public long MaximumRequestBytes { get; set; } = 4 << 20;

    /// <summary>Most bytes of the bodies of all requests together, from the first byte to the end of the answer, each counted with 16 KiB at least. Where there
    /// would be more, the body that has been on its way for the longest ends with 408, and where all are whole the new one with 429. Default 256 MiB.</summary>
    public long MaximumBodyBytes { get; set; } = 256 << 20;

    /// <summary>How long the service, told to end, takes requests on while /health/ready says 503 already, so that balancers learn of it. Default 0; 5 seconds
    /// is good in Kubernetes.</summary>
    public TimeSpan DrainDelay { get; set; } = TimeSpan.Zero;

    /// <summary>How long answers that are under way may take when nothing new is taken any more; then they end with an error. Default 25 seconds. The host's
    /// ShutdownTimeout is raised to this, <see cref="DrainDelay"/> and five seconds.</summary>
    public TimeSpan DrainTimeout { get; set; } = TimeSpan.FromSeconds(25);

    /// <summary>Whether prompts and answers are logged. Default false.</summary>
    public bool LogContent { get; set; }
}
