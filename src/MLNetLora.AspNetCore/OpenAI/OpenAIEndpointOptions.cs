namespace MLNetLora.AspNetCore;

/// <summary>How <see cref="Microsoft.AspNetCore.Builder.OpenAIEndpoints.MapOpenAI"/> answers.</summary>
public sealed class OpenAIEndpointOptions
{
    /// <summary>
    /// Whether fields of a request that nobody knows are passed over. Default false: they are an error 400 that names the field, as with OpenAI, because a
    /// misspelled <c>max_token</c> would otherwise be an answer without a limit. Set it for clients that send fields of their own and cannot be taught.
    /// </summary>
    public bool IgnoreUnknownFields { get; set; }

    /// <summary>Most answers of one request: <c>n</c>, times its prompts. Default 128, as with OpenAI.</summary>
    public int MaximumChoices { get; set; } = 128;

    /// <summary>
    /// After how long without an event a stream gets a comment, which clients pass over and which keeps proxies from closing the connection. Default 15
    /// seconds.
    /// </summary>
    public TimeSpan PingInterval { get; set; } = TimeSpan.FromSeconds(15);

    /// <summary>Throws an <see cref="OptionException"/> that names the first option that makes no sense.</summary>
    public void Validate()
    {
        Require.That(MaximumChoices >= 1, nameof(MaximumChoices), MaximumChoices, "1 or more");
        bool pings = PingInterval > TimeSpan.Zero && PingInterval.TotalMilliseconds < uint.MaxValue - 1;
        Require.That(pings, nameof(PingInterval), PingInterval, "above zero, and less than 49 days");
    }
}
