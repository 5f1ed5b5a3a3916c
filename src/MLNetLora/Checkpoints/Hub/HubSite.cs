using System.Text.Json;

namespace MLNetLora.Checkpoints;

/// <summary>A site that hosts models: its addresses, and how its answers read. Nothing of it touches the network.</summary>
internal abstract class HubSite(string name, string defaultRevision, Uri endpoint)
{
    /// <summary>What messages call it.</summary>
    public string Name => name;

    /// <summary>The main branch.</summary>
    public string DefaultRevision => defaultRevision;

    /// <summary>Its address, which alone gets the token.</summary>
    public Uri Endpoint => endpoint;

    /// <summary>Where a token is said, for messages.</summary>
    public abstract string TokenVariable { get; }

    /// <summary>Where a model's licence is accepted, for messages.</summary>
    public abstract string Page(HubId id);

    /// <summary>Where the list of files is.</summary>
    public abstract Uri ListAddress(HubId id);

    /// <summary>Where a file is.</summary>
    public abstract Uri FileAddress(HubId id, string revision, string path);

    /// <summary>Shows the token.</summary>
    public abstract void Authorize(HttpRequestMessage request, string token);

    /// <summary>Reads the list of files.</summary>
    /// <exception cref="HubException">It tells of an error, or is no such list.</exception>
    public abstract HubListing ReadList(JsonElement answer, HubId id);

    /// <summary>The site that options and environment name, and the token for it.</summary>
    /// <exception cref="OptionException">A variable makes no sense.</exception>
    public static (HubSite Site, string? Token) Of(HubDownloadOptions options)
    {
        HubEnvironment environment = options.Environment;
        bool isModelScope = (options.Source ?? (environment.IsOn("USE_MODELSCOPE_HUB") ? HubSource.ModelScope : HubSource.HuggingFace)) == HubSource.ModelScope;
        HubSite site = isModelScope
            ? new ModelScopeSite(Address(options, environment, ["MODELSCOPE_ENDPOINT", "MODELSCOPE_DOMAIN"], "https://modelscope.cn"))
            : new HuggingFaceSite(Address(options, environment, ["HF_ENDPOINT"], "https://huggingface.co"));
        string? token = options.Token is { } given
            ? HubEnvironment.Clean(given)
            : isModelScope ? HubEnvironment.Clean(environment.Text("MODELSCOPE_API_TOKEN")) : environment.HuggingFaceToken;
        Require.That(token is null || HubDownloadOptions.IsToken(token), $"The token in {site.TokenVariable}", "not shown", HubDownloadOptions.TokenForm);
        return (site, token);
    }

    /// <summary>An address below the site's own.</summary>
    protected Uri Under(string path) => new(endpoint.AbsoluteUri.TrimEnd('/') + path);

    protected static HubException NoList(HubSite site, HubId id, string what) => new(
        $"{site.Endpoint} does not answer as {site.Name} does when asked for {id}: {what}. Is that the right address?");

    /// <summary>A text of an object; null where it is not there or something else.</summary>
    protected static string? Text(JsonElement item, string field)
    {
        try
        {
            return item.ValueKind == JsonValueKind.Object && item.TryGetProperty(field, out JsonElement value) && value.ValueKind == JsonValueKind.String
                ? value.GetString()
                : null;
        }
        catch (InvalidOperationException) // half a surrogate pair
        {
            return null;
        }
    }

    /// <summary>A length; -1 where it is not there or none.</summary>
    protected static long Length(JsonElement item, string field) =>
        item.ValueKind == JsonValueKind.Object && item.TryGetProperty(field, out JsonElement value) && value.ValueKind == JsonValueKind.Number
        && value.TryGetInt64(out long number) && number >= 0 ? number : -1;

    private static Uri Address(HubDownloadOptions options, HubEnvironment environment, IEnumerable<string> variables, string otherwise)
    {
        if (options.Endpoint is { } given)
        {
            return new Uri(given);
        }

        foreach (string variable in variables)
        {
            if (environment.Text(variable)?.Trim() is { Length: > 0 } text)
            {
                text = text.Contains("://", StringComparison.Ordinal) ? text : "https://" + text;
                Require.That(HubDownloadOptions.IsEndpoint(text), variable, text, $"an address such as {otherwise}");
                return new Uri(text);
            }
        }

        return new Uri(otherwise);
    }
}
