using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;
using MLNetLora.Checkpoints;

namespace MLNetLora.AspNetCore;

/// <summary>The keys that requests send. Thread-safe.</summary>
internal sealed class ApiKeys : IDisposable
{
    private readonly KeySet _api;
    private readonly KeySet _admin;

    public ApiKeys(IOptions<ServingOptions> options, TimeProvider time, ServingState state, ILoggerFactory logs)
    {
        ILogger log = logs.CreateLogger(ServingLog.Category);
        _api = new KeySet("API keys", options.Value.ApiKeys, options.Value.ApiKeyFile, time, state, log);
        _admin = new KeySet("admin keys", options.Value.AdminKeys, options.Value.AdminKeyFile, time, state, log);
    }

    /// <summary>Whether requests need a key.</summary>
    public bool AreNeeded => _api.IsThere;

    /// <summary>Whether there are keys for loading and unloading.</summary>
    public bool AllowAdmin => _admin.IsThere;

    /// <summary>Why a request may not be answered; null where it may.</summary>
    /// <param name="request">It.</param>
    /// <param name="isAdmin">Whether it changes what is served.</param>
    public ServingError? Refusal(HttpRequest request, bool isAdmin)
    {
        KeySet keys = isAdmin ? _admin : _api;
        if (!keys.IsThere && !isAdmin)
        {
            return null;
        }

        string key = Sent(request);
        if (key.Length == 0)
        {
            return ServingError.Unauthorized($"No {(isAdmin ? "admin" : "API")} key was sent. Send it as 'Authorization: Bearer KEY'.");
        }

        return keys.Has(key) ? null : ServingError.Unauthorized($"The {(isAdmin ? "admin" : "API")} key is wrong.");
    }

    /// <summary>Tells the holders of API keys apart; null where requests need none.</summary>
    /// <param name="request">One that <see cref="Refusal"/> has nothing against.</param>
    public string? Caller(HttpRequest request) => AreNeeded ? Convert.ToHexString(KeySet.Hash(Sent(request))) : null;

    /// <summary>Throws where a file has no key.</summary>
    /// <exception cref="OptionException">It cannot be read, or there is none in it.</exception>
    public static void Require(string path)
    {
        if (Read(path).Count == 0)
        {
            throw new OptionException($"There is no key in {path}; it has to have one a line.");
        }
    }

    /// <summary>The keys of a file.</summary>
    /// <exception cref="OptionException">It cannot be read.</exception>
    public static IReadOnlyList<string> Read(string path)
    {
        const int mostBytes = 1 << 20;
        try
        {
            if (File.Exists(path) && new FileInfo(RealPath.Of(path)).Length == 0)
            {
                return []; // or a pipe, for whose writer one would wait without end
            }

            string text = BoundedFile.ReadText(path, mostBytes) ?? throw new OptionException(
                $"{path} has more than {mostBytes} bytes; a file of keys has one a line.");
            return [.. text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Where(line => !line.StartsWith('#'))];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OptionException($"The keys in {path} cannot be read: {e.Message}", e);
        }
    }

    private static string Sent(HttpRequest request)
    {
        const string scheme = "Bearer ";
        string header = request.Headers.Authorization.ToString();
        return header.StartsWith(scheme, StringComparison.OrdinalIgnoreCase) ? header[scheme.Length..].Trim() : "";
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _api.Dispose();
        _admin.Dispose();
    }
}
