using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Options;
using MLNetLora.Checkpoints;

namespace MLNetLora.AspNetCore;

/// <summary>The keys that requests send. What is kept of one is its hash, so that all have one length; every one is compared, in the same time.
/// Thread-safe.</summary>
internal sealed class ApiKeys
{
    private readonly KeySet _api;
    private readonly KeySet _admin;

    public ApiKeys(IOptions<ServingOptions> options, TimeProvider time)
    {
        _api = new KeySet(options.Value.ApiKeys, options.Value.ApiKeyFile, time);
        _admin = new KeySet(options.Value.AdminKeys, options.Value.AdminKeyFile, time);
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

        const string scheme = "Bearer ";
        string header = request.Headers.Authorization.ToString();
        if (!header.StartsWith(scheme, StringComparison.OrdinalIgnoreCase) || header.Length == scheme.Length)
        {
            return ServingError.Unauthorized($"No {(isAdmin ? "admin" : "API")} key was sent. Send it as 'Authorization: Bearer KEY'.");
        }

        return keys.Has(header[scheme.Length..].Trim()) ? null : ServingError.Unauthorized($"The {(isAdmin ? "admin" : "API")} key is wrong.");
    }

    /// <summary>The keys of a file.</summary>
    /// <exception cref="OptionException">It cannot be read, or there is none in it.</exception>
    public static IReadOnlyList<string> Read(string path)
    {
        const int mostBytes = 1 << 20;
        try
        {
            string text = BoundedFile.ReadText(path, mostBytes) ?? throw new OptionException(
                $"{path} has more than {mostBytes} bytes; a file of keys has one a line.");
            string[] keys = [.. text.Split('\n', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries).Where(line => !line.StartsWith('#'))];
            return keys.Length > 0 ? keys : throw new OptionException($"There is no key in {path}; it has to have one a line.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OptionException($"The keys in {path} cannot be read: {e.Message}", e);
        }
    }

    private sealed class KeySet(IList<string> keys, string? file, TimeProvider time)
    {
        private static readonly TimeSpan s_period = TimeSpan.FromSeconds(10);

        private readonly Lock _lock = new();
        private readonly byte[][] _fixed = [.. keys.Select(Hash)];
        private byte[][] _ofFile = [];
        private long _read;
        private bool _wasRead;

        public bool IsThere => _fixed.Length > 0 || file is not null;

        public bool Has(string key)
        {
            byte[] hash = Hash(key);
            bool found = false;
            foreach (byte[] known in (byte[][])[.. _fixed, .. OfFile()])
            {
                found |= CryptographicOperations.FixedTimeEquals(hash, known);
            }

            return found;
        }

        /// <summary>The file's keys; those that it had before while it cannot be read.</summary>
        private byte[][] OfFile()
        {
            if (file is null)
            {
                return [];
            }

            lock (_lock)
            {
                if (!_wasRead || time.GetElapsedTime(_read) >= s_period)
                {
                    (_wasRead, _read) = (true, time.GetTimestamp());
                    try
                    {
                        _ofFile = [.. Read(file).Select(Hash)];
                    }
                    catch (OptionException)
                    {
                        // A secret that is being replaced is back in a moment.
                    }
                }

                return _ofFile;
            }
        }

        private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
    }
}
