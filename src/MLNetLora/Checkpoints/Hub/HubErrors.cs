using System.Net;

namespace MLNetLora.Checkpoints;

/// <summary>Something that may pass: a cut connection, a busy server. It is tried again, and a <see cref="HubException"/> in the end.</summary>
/// <param name="message">What happened, a sentence.</param>
/// <param name="inner">The cause.</param>
internal sealed class PassingException(string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>How long the server asks to wait; null where it does not.</summary>
    public TimeSpan? After { get; init; }

    /// <summary>What the server answered.</summary>
    public HttpStatusCode? Status { get; init; }
}

/// <summary>What answers of a hub mean that are no success.</summary>
internal static class HubErrors
{
    private const int ShownCharacters = 200;

    /// <summary>The exception of an answer; of what may pass a <see cref="PassingException"/>.</summary>
    /// <param name="response">The answer.</param>
    /// <param name="site">The site.</param>
    /// <param name="id">The model that was asked for.</param>
    /// <param name="file">The file that was asked for; null where it was the list.</param>
    /// <param name="hasToken">Whether a token was shown.</param>
    /// <param name="isHub">Whether the hub itself answers, and not where it redirects.</param>
    /// <param name="now">The time, for a Retry-After that is a date.</param>
    public static Exception Of(HttpResponseMessage response, HubSite site, HubId id, string? file, bool hasToken, bool isHub, DateTimeOffset now)
    {
        HttpStatusCode status = response.StatusCode;
        string said = Header(response, "X-Error-Message") is { } text ? $" It says: {Shown(text)}" : "";
        string where = $"{site.Name} ({response.RequestMessage!.RequestUri!.Host}) answers {(int)status} for {id}{(file is null ? "" : $", {file}")}.{said}";
        if (status is HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests || (int)status >= 500)
        {
            return new PassingException(where) { After = After(response, now), Status = status };
        }

        if (!isHub)
        {
            return new HubException($"{where} {site.Endpoint.Host} leads there; is that host blocked here?") { StatusCode = status };
        }

        string signIn = hasToken ? "Your token has no right to it, or has expired" : $"For a private or gated model set {site.TokenVariable} to a token of yours";
        string message = Header(response, "X-Error-Code") switch
        {
            "GatedRepo" => $"{id.Name} is gated: open {site.Page(id)}, accept its licence with your account, "
                + $"{(hasToken ? $"whose token {site.TokenVariable} must be" : $"and set {site.TokenVariable} to a token of it")}.{said}",
            "RevisionNotFound" => $"{id.Name} has no revision '{id.Revision ?? site.DefaultRevision}' on {site.Name}. {site.Page(id)} shows its branches and tags.",
            "EntryNotFound" => $"{id} has no file {file} on {site.Name}.",
            "RepoNotFound" => NoModel(),
            _ => status switch
            {
                HttpStatusCode.Unauthorized => NoModel(),
                HttpStatusCode.Forbidden => $"{where} {signIn}; the licence of a gated model is accepted at {site.Page(id)}.",
                HttpStatusCode.NotFound when file is not null => $"{id} has no file {file} on {site.Name}.",
                HttpStatusCode.NotFound when id.Revision is null => NoModel(),
                HttpStatusCode.NotFound => $"There is no model {id.Name} on {site.Name}, or it has no revision '{id.Revision}'. {site.Page(id)} shows its branches and tags.",
                HttpStatusCode.ProxyAuthenticationRequired => $"{where} The proxy of this machine wants a user and a password: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT.",
                _ => where,
            },
        };
        return new HubException(message) { StatusCode = status };

        string NoModel() => $"There is no model {id.Name} on {site.Name} ({site.Endpoint.Host}), or it is not yours to see. Check the name. {signIn}.";
    }

    /// <summary>A text from a server, as it may stand in a message.</summary>
    public static string Shown(string? text)
    {
        string plain = new([.. (text ?? "").Take(ShownCharacters + 1).Select(c => char.IsControl(c) ? ' ' : c)]);
        return plain.Length > ShownCharacters ? plain[..ShownCharacters] + "…" : plain;
    }

    /// <summary>The first value of a header, whatever its form.</summary>
    public static string? Header(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out IEnumerable<string>? values) || response.Content.Headers.TryGetValues(name, out values)
            ? values.FirstOrDefault()
            : null;

    private static TimeSpan? After(HttpResponseMessage response, DateTimeOffset now) => response.Headers.RetryAfter switch
    {
        { Delta: { } delta } => delta,
        { Date: { } date } => date > now ? date - now : TimeSpan.Zero,
        _ => null,
    };
}
